"""From a graph to a network: node by node, each by its row of the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from edgekit.errors import ModelError
from edgekit.nets.from_onnx.file import OnnxFile
from edgekit.nets.from_onnx.fold import Array, Known, computed, stored
from edgekit.nets.from_onnx.fuse import fuse
from edgekit.nets.from_onnx.graph import Operator, Reader, Ref, Value, Workbench
from edgekit.nets.from_onnx.kept import keep
from edgekit.nets.from_onnx.names import Names
from edgekit.nets.from_onnx.network import LayerList, Made, Stored, Wiring
from edgekit.nets.from_onnx.table import OPERATORS, Row
from edgekit.nets.from_onnx.untaken import UntakenError
from edgekit.schema.tensors import InputSpec

if TYPE_CHECKING:
    import onnx

_STANDARD = ("", "ai.onnx")


def convert(
    file: OnnxFile,
    inputs: tuple[InputSpec, ...],
    table: Mapping[str, Row] = OPERATORS,
    *,
    allow_float: bool = False,
) -> LayerList:
    """The network of a graph, its weights in it, in eval mode; the batch is free.

    Args:
        inputs: names, shapes and types of the graph's inputs, in its order; all batch first, and of one batch.
        allow_float: keep what the table does not take as it is, computed in float by ONNX Runtime.

    Raises:
        ModelError: an operator is not taken: its name, its node and why.
    """
    graph = file.proto.graph
    batches = {spec.shape[0] for spec in inputs}
    if len(batches) > 1:
        shapes = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in inputs)
        raise ModelError(
            f"the inputs differ in their first size: {shapes}", file.where, "every input must have the batch first"
        )
    constants = _constants(graph)
    fuse(graph, constants)
    names = Names(tensor.name for tensor in graph.initializer)
    bench = Workbench(names, batches.pop(), _readers(graph), one_batch=file.one_batch)
    origins = {tensor.name for tensor in graph.initializer}
    bench.values.update({name: stored(array, name if name in origins else None) for name, array in constants.items()})
    for spec in inputs:
        bench.take_input(spec.name, spec.shape, getattr(torch, spec.dtype))
    if not allow_float:
        _refuse_unknown(graph, table, file)
    for node in graph.node:
        _walk(node, bench, file, table, allow_float)
    return _finish(bench, graph, inputs, file)


def _walk(node: onnx.NodeProto, bench: Workbench, file: OnnxFile, table: Mapping[str, Row], allow_float: bool) -> None:
    if all(name in bench.values for name in node.output if name):
        return  # stored, or done together with what stands before it
    given: tuple[Value | None, ...] = tuple(bench.values[name] if name else None for name in node.input)
    if node.op_type == "If" and isinstance(given[0], Known) and given[0].fixed:
        _walk_branch(node, bool(given[0].array.reshape(-1)[0]), bench, file, table, allow_float)
        return
    try:
        found = _outputs(node, given, bench, file.opset, table, allow_float)
    except UntakenError as err:
        raise _refusal(node, err.reason, file) from err
    for name, value in zip(node.output, found, strict=False):
        if name:
            bench.values[name] = value
    behind = bench.done_behind.get(node.output[0])
    if behind is not None:
        bench.values[behind] = found[0]


def _outputs(
    node: onnx.NodeProto,
    given: tuple[Value | None, ...],
    bench: Workbench,
    opset: int,
    table: Mapping[str, Row],
    allow_float: bool,
) -> tuple[Value, ...]:
    if given and all(value is None or isinstance(value, Known) for value in given):
        found = computed(node, [value for value in given if value is None or isinstance(value, Known)], opset)
        if found is not None:
            return found
    row = table.get(node.op_type)
    standard = node.domain in _STANDARD
    if not standard or (row is None and not allow_float):
        raise UntakenError("it is not among the operators that become layers")
    op = Operator(
        kind=node.op_type,
        name=node.name or f"{node.op_type.lower()}_{node.output[0]}",
        opset=opset,
        attributes=_attributes(node),
        inputs=given,
        outputs=tuple(name for name in node.output if name),
        bench=bench,
    )
    made: Any
    try:
        if row is None:
            raise UntakenError("it has no row")
        made = row(op)
    except UntakenError:
        if not allow_float:
            raise
        made = keep(op, node)
    return made if isinstance(made, tuple) else (made,)


def _walk_branch(
    node: onnx.NodeProto,
    condition: bool,
    bench: Workbench,
    file: OnnxFile,
    table: Mapping[str, Row],
    allow_float: bool,
) -> None:
    """The branch of an If that a stored condition takes."""
    (branch,) = [a.g for a in node.attribute if a.name == ("then_branch" if condition else "else_branch")]
    bench.values.update({name: stored(array) for name, array in _constants(branch).items()})
    for inner in branch.node:
        _walk(inner, bench, file, table, allow_float)
    for outer, value in zip(node.output, branch.output, strict=True):
        bench.values[outer] = bench.values[value.name]


def _refuse_unknown(graph: onnx.GraphProto, table: Mapping[str, Row], file: OnnxFile) -> None:
    """All operators without a row at once, where a tensor that is not stored goes into them."""
    running = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    untaken: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if not running & set(node.input):
            continue
        if node.op_type not in ("Shape", "Size"):
            running |= set(node.output)
        if node.op_type != "If" and (node.op_type not in table or node.domain not in _STANDARD):
            title = node.op_type if node.domain in _STANDARD else f"{node.domain}.{node.op_type}"
            untaken.setdefault(title, []).append(node)
    if untaken:
        first = next(iter(untaken.values()))[0]
        listed = ", ".join(f"{name} ({len(nodes)})" if len(nodes) > 1 else name for name, nodes in untaken.items())
        raise ModelError(
            f"operators that do not become layers: {listed}",
            f"{file.where}, node {first.name or first.output[0]} ({first.op_type})",
            "export the network without them, or keep them in float by --allow-float (docs/onnx-in.md)",
        )


def _refusal(node: onnx.NodeProto, reason: str, file: OnnxFile) -> ModelError:
    return ModelError(
        f"the operator {node.op_type} is not taken: {reason}",
        f"{file.where}, node {node.name or node.output[0]}",
        "export the network in another way, or keep the operator in float by --allow-float (docs/onnx-in.md)",
    )


def _finish(bench: Workbench, graph: onnx.GraphProto, inputs: tuple[InputSpec, ...], file: OnnxFile) -> LayerList:
    outputs = {}
    for value in graph.output:
        found = bench.values.get(value.name)
        if not isinstance(found, Ref):
            raise ModelError(
                f"output {value.name!r} does not depend on the input", file.where, "export the network without it"
            )
        outputs[value.name] = found.name
    network = bench.network
    network.wiring = Wiring(tuple(spec.name for spec in inputs), outputs, network.wiring.lines)
    _drop_unused(network)
    return network.eval()


def _drop_unused(network: LayerList) -> None:
    """Lines that no output needs go, and their layers with them."""
    needed = set(network.wiring.outputs.values())
    kept = []
    for line in reversed(network.wiring.lines):
        if needed & set(line.outputs):
            kept.append(line)
            needed |= {argument.name for argument in line.arguments if isinstance(argument, Made)}
        else:
            parent, _, leaf = line.layer.rpartition(".")
            delattr(network.get_submodule(parent), leaf)
    network.wiring.lines[:] = reversed(kept)
    used = {argument.name for line in kept for argument in line.arguments if isinstance(argument, Stored)}
    own = {name for name, module in network.named_modules() if type(module) in (nn.Module, LayerList)}
    for name in [name for name, _ in (*network.named_parameters(), *network.named_buffers())]:
        parent, _, leaf = name.rpartition(".")
        if parent in own and name not in used:
            delattr(network.get_submodule(parent), leaf)


def _constants(graph: onnx.GraphProto) -> dict[str, Array]:
    """Every stored tensor and every Constant node of a graph."""
    from onnx import numpy_helper

    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in _STANDARD and len(node.attribute) == 1:
            value = node.attribute[0]
            plain: dict[str, tuple[Any, Any]] = {
                "value_float": (value.f, np.float32),
                "value_floats": (list(value.floats), np.float32),
                "value_int": (value.i, np.int64),
                "value_ints": (list(value.ints), np.int64),
            }
            if value.name == "value":
                found[node.output[0]] = numpy_helper.to_array(value.t)
            elif value.name in plain:
                content, dtype = plain[value.name]
                found[node.output[0]] = np.asarray(content, dtype=dtype)
    return found


def _readers(graph: onnx.GraphProto) -> dict[str, list[Reader]]:
    found: dict[str, list[Reader]] = {value.name: [Reader("output", (), ())] for value in graph.output}
    for node in graph.node:
        reader = Reader(node.op_type, tuple(node.input), tuple(node.output))
        for name in node.input:
            found.setdefault(name, []).append(reader)
        for attribute in node.attribute:  # a subgraph may read any tensor
            for inner in attribute.g.node if attribute.HasField("g") else ():
                for name in inner.input:
                    found.setdefault(name, []).append(Reader("subgraph", (), ()))
    return found


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    import onnx

    found = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        found[attribute.name] = onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
    return found
