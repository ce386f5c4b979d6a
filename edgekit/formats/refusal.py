"""Which operator of a program a converter has no form for: asked one operator at a time, once it refused the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from edgekit.errors import FormatError
from edgekit.nets.from_onnx.kept import kind_of_node
from edgekit.nets.graph import layer_of, tensor_of
from edgekit.nets.model import Model
from edgekit.nets.operators import KINDS
from edgekit.schema.recipe import FormatName

Convert = Callable[[fx.GraphModule, tuple[Tensor, ...]], object]

_TITLES: dict[FormatName, str] = {"onnx": "ONNX", "tensorrt": "ONNX", "tflite": "TFLite"}


def refusal(
    module: fx.GraphModule, model: Model, format_name: FormatName, convert: Convert, err: Exception
) -> FormatError:
    """What to raise when a converter refused `module`: the layer and its operator where one is refused by itself too.

    Converters name operators of their own, which may be none of the network's, and no layers.

    Args:
        convert: the converter on a program and its inputs; raises where it refuses.
        err: what it raised for the whole.
    """
    title = _TITLES[format_name]
    drop = f"drop {format_name} from export.formats"
    node = _first_refused(module, convert)
    if node is None:
        cause: BaseException = err
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        return FormatError(
            f"the network cannot become {title}: {reason[:300]}",
            f"format {format_name}; {model.source.where}",
            f"replace the layer that the message speaks of, or {drop}",
        )
    operator = str(node.target).removeprefix("aten.").partition(".")[0]
    if operator == "edgekit":  # a node of an .onnx file that was kept as it is
        operator = f"{kind_of_node(str(node.args[1]))}, which was kept in float"
    return FormatError(
        f"{title} has no form of the operator {operator}",
        f"layer {layer_of(node) or '(the network itself)'}, format {format_name}; {model.source.where}",
        f"replace the layer by operators that the format has, or {drop}",
    )


def _first_refused(module: fx.GraphModule, convert: Convert) -> fx.Node | None:
    """The first operator that is refused alone. Those that placement rules know are in every format."""
    fine: set[Any] = set(KINDS)
    node: fx.Node
    for node in module.graph.nodes:
        if node.op != "call_function" or node.target in fine or not isinstance(node.target, torch._ops.OpOverload):
            continue
        alone = _alone(module, node)
        if alone is None:
            continue
        try:
            convert(*alone)
        except Exception:  # a converter raises many kinds; here all of them are the answer
            return node
        fine.add(node.target)
    return None


def _alone(module: fx.GraphModule, node: fx.Node) -> tuple[fx.GraphModule, tuple[Tensor, ...]] | None:
    """A program of one operator, with inputs of the shapes that it has in `module`; None where they are not known."""
    graph, examples = fx.Graph(), []
    made: dict[fx.Node, fx.Node] = {}
    for source in node.all_input_nodes:
        value = tensor_of(module, source) if source.op == "get_attr" else source.meta.get("val")
        if not isinstance(value, Tensor) or not all(isinstance(size, int) for size in value.shape):
            return None
        made[source] = graph.placeholder(f"x{len(made)}")
        example = torch.ones(tuple(value.shape), dtype=value.dtype)
        made[source].meta["val"] = example
        examples.append(example)
    if not examples:
        return None
    copy = graph.node_copy(node, lambda source: made[source])
    found = node.meta.get("val")
    graph.output(copy if isinstance(found, Tensor) or found is None else (graph.call_function(_first, (copy,)),))
    return fx.GraphModule(torch.nn.Module(), graph).eval(), tuple(examples)


def _first(values: Any) -> Any:
    return values[0]
