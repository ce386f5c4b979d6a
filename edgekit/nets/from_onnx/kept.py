"""Operators without a row that a user wants kept: they stay ONNX nodes, computed in float by ONNX Runtime.

A program holds such a node as `edgekit::onnx_node`; the ONNX exporter writes it as it was, and no other format has it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.errors import PassError
from edgekit.nets.from_onnx.graph import Operator
from edgekit.nets.from_onnx.untaken import UntakenError

if TYPE_CHECKING:
    import onnx

WRITTEN_OPSET = 18  # of artifacts: an operator is kept only if it means the same there

_library: Any = torch.library.Library("edgekit", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define("onnx_node(Tensor[] inputs, str node) -> Tensor[]")


def keep(op: Operator, node: onnx.NodeProto) -> Any:
    """A row for any operator of the standard: the node as it is.

    Raises:
        UntakenError: it is of another domain, holds a graph of its own, means something else in the operator set that
            artifacts are written in, or gives sizes that depend on values.
    """
    import onnx

    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        raise UntakenError("it holds a graph of its own, so it cannot be kept in float either")
    try:
        versions = {onnx.defs.get_schema(op.kind, at, "").since_version for at in (op.opset, WRITTEN_OPSET)}
    except onnx.defs.SchemaError as err:
        raise UntakenError(f"it cannot be kept in float: operator set {WRITTEN_OPSET} has it not") from err
    if len(versions) > 1:
        raise UntakenError(f"it cannot be kept in float: it means something else in operator set {WRITTEN_OPSET}")
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    plain.input[:] = [f"i{k}" if value is not None else "" for k, value in enumerate(op.inputs)]
    plain.output[:] = [f"o{k}" for k in range(len(node.output))]
    plain.name = plain.doc_string = ""
    given = [k for k, value in enumerate(op.inputs) if value is not None]
    layer = KeptNode(base64.b64encode(plain.SerializeToString(deterministic=True)).decode())
    return op.layer(layer, *(op.tensor(k) for k in given), outputs=len(node.output))


class KeptNode(nn.Module):
    """One ONNX node as a layer; nothing can be learned through it."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self.node = node

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the node, in its order."""
        return tuple(torch.ops.edgekit.onnx_node(list(inputs), self.node))

    def extra_repr(self) -> str:
        """The operator."""
        return kind_of_node(self.node)


def kind_of_node(node: str) -> str:
    """Name of the operator of a kept node."""
    return str(read_node(node).op_type)


def read_node(node: str) -> onnx.NodeProto:
    """A kept node; its inputs are called i0, i1, ... by their place, its outputs o0, o1, ..."""
    import onnx

    found: onnx.NodeProto = onnx.NodeProto.FromString(base64.b64decode(node))
    return found


def write_node(inputs: Sequence[Any], node: str) -> list[Any]:
    """How torch's ONNX exporter writes a kept node: as it was."""
    import onnx
    import onnxscript

    proto = read_node(node)
    waiting = iter(inputs)
    given = [next(waiting) if name else None for name in proto.input]
    attributes = {a.name: _as_text(onnx.helper.get_attribute_value(a)) for a in proto.attribute}
    operators = onnxscript.values.Opset("", WRITTEN_OPSET)
    found = onnxscript.values.Op(operators, proto.op_type)(*given, **attributes)
    return list(found) if isinstance(found, tuple | list) else [found]


def _as_text(value: Any) -> Any:
    """An attribute's value with text as str."""
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


@lru_cache(maxsize=256)
def _session(node: str, kinds: tuple[tuple[int, int], ...]) -> Any:
    """ONNX Runtime on the node alone, for inputs of these types and ranks."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    shapes = [(kind, [f"d{i}_{axis}" for axis in range(rank)]) for i, (kind, rank) in enumerate(kinds)]
    return onnxruntime.InferenceSession(
        _model(node, shapes).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _model(node: str, inputs: Sequence[tuple[int, Sequence[int | str]]]) -> onnx.ModelProto:
    import onnx

    proto = read_node(node)
    names = [name for name in proto.input if name]
    graph = onnx.helper.make_graph(
        [proto],
        "kept",
        [onnx.helper.make_tensor_value_info(n, *given) for n, given in zip(names, inputs, strict=True)],
        [onnx.ValueInfoProto(name=name) for name in proto.output],
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", WRITTEN_OPSET)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def _compute(inputs: Sequence[Tensor], node: str) -> list[Tensor]:
    import onnx

    # parity runs a program in float64; the node is computed in float32, as it is where it ships
    arrays = [x.float().numpy() if x.dtype == torch.float64 else x.numpy() for x in (x.detach() for x in inputs)]
    kinds = tuple((onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.ndim) for array in arrays)
    names = [name for name in read_node(node).input if name]
    found = _session(node, kinds).run(None, dict(zip(names, arrays, strict=True)))
    wide = any(x.dtype == torch.float64 for x in inputs)
    made = [torch.from_numpy(np.array(array)) for array in found]
    return [x.double() if wide and x.is_floating_point() else x for x in made]


def _shapes(inputs: Sequence[Tensor], node: str) -> list[Tensor]:
    import onnx

    given = []
    for x in inputs:
        dtype = np.dtype("float32" if x.dtype == torch.float64 else str(x.dtype).removeprefix("torch."))
        given.append((onnx.helper.np_dtype_to_tensor_dtype(dtype), [int(size) for size in x.shape]))
    wide = any(x.dtype == torch.float64 for x in inputs)
    found = []
    for value in _model(node, given).graph.output:
        kind = value.type.tensor_type
        if not kind.HasField("shape") or not all(dim.HasField("dim_value") for dim in kind.shape.dim):
            raise RuntimeError(f"{kind_of_node(node)} gives sizes that depend on values")
        given_type: torch.dtype = getattr(torch, str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)))
        made_type = torch.float64 if wide and given_type == torch.float32 else given_type
        found.append(inputs[0].new_empty([dim.dim_value for dim in kind.shape.dim], dtype=made_type))
    return found


def _no_gradient(context: Any, *gradients: Any) -> Any:
    raise PassError(
        f"nothing can be learned through {context.kind}, which was kept in float",
        "model.allow_float",
        "export the network without the operator, or drop the steps that learn from gradients",
    )


def _remember(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.kind = kind_of_node(inputs[1])


_library.impl("onnx_node", _compute, "CPU")
torch.library.register_fake("edgekit::onnx_node", _shapes, lib=_library)
torch.library.register_autograd("edgekit::onnx_node", _no_gradient, setup_context=_remember, lib=_library)
