"""One step of a recurrent network as a TFLite file -> the file of a whole sequence, with weights stored once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.errors import FormatError
from edgekit.formats.tflite.graph import Graph, Op
from edgekit.formats.tflite.strip import drop_unused

AT = "@"  # between the name of a tensor and the number of its step


def unroll(content: bytes, feedback: Mapping[str, str], steps: int) -> bytes:
    """Repeat the operators of one step; the file then takes a sequence (N, T, C) and gives the answer after the last.

    States go from step to step as they are and are zero before the first one. What only the answer needs is computed
    once.

    Args:
        feedback: output -> input that it goes into, by the names of tensors.
        steps: T.

    Raises:
        FormatError: a state leaves a step on another grid than it enters.
    """
    import flatbuffers

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    graph = Graph(model)
    sub = graph.sub
    ends = {sub.tensors[int(i)].name.decode(): int(i) for i in (*sub.inputs, *sub.outputs)}
    pairs = {ends[given]: ends[made] for made, given in feedback.items()}
    for given, made in pairs.items():
        _check_grids(graph, given, made)
    x, answer = int(sub.inputs[0]), int(sub.outputs[0])
    inside = _needed(sub.operators, pairs.values())
    last = _needed(sub.operators, [answer])
    operators, parts, sequence = _cut(graph, x, steps)
    values = {given: _zeros(graph, given) for given in pairs}
    for t in range(steps):
        values[x] = parts[t]
        for op in last if t == steps - 1 else inside:
            made = copy(op)
            made.inputs = [values.get(int(tensor), int(tensor)) for tensor in op.inputs]
            made.outputs = [_copied(graph, int(tensor), t) for tensor in op.outputs]
            values |= dict(zip(map(int, op.outputs), made.outputs, strict=True))
            operators.append(made)
        following = {given: values[made] for given, made in pairs.items() if made in values}
        values = following if t < steps - 1 else values
    sub.tensors[values[answer]].name = sub.tensors[answer].name
    sub.operators, sub.inputs, sub.outputs = operators, [sequence], [values[answer]]
    for signature in model.signatureDefs or []:
        signature.inputs, signature.outputs = signature.inputs[:1], signature.outputs[:1]
        signature.inputs[0].tensorIndex, signature.outputs[0].tensorIndex = sequence, values[answer]
    drop_unused(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def count_nodes(content: bytes) -> int:
    """Operators in the graph of a file."""
    return int(schema.Model.GetRootAsModel(content, 0).Subgraphs(0).OperatorsLength())


def _needed(operators: Iterable[Any], outputs: Iterable[int]) -> list[Any]:
    """The operators that `outputs` are computed by, in order."""
    wanted, found = set(outputs), []
    for op in reversed(list(operators)):
        if wanted.intersection(map(int, op.outputs)):
            found.append(op)
            wanted.update(map(int, op.inputs))
    return found[::-1]


def _cut(graph: Graph, x: int, steps: int) -> tuple[list[Any], list[int], int]:
    """What cuts a sequence into one input for each step: its operators, these inputs, and the sequence.

    Slices of (N, T * C), since XNNPACK runs those and no split in so many parts.
    """
    batch, width = graph.shape(x)
    name = graph.sub.tensors[x].name.decode()
    sequence = graph.add_tensor(x, name.encode(), shape=[batch, steps, width])
    flat = graph.add_tensor(x, f"{name}{AT}flat".encode(), shape=[batch, steps * width])
    size = _integers(graph, f"{name}{AT}size", [batch, width])
    shape = schema.ReshapeOptionsT()
    shape.newShape = [batch, steps * width]
    operators = [
        _operator(
            graph,
            Op.RESHAPE,
            [sequence, _integers(graph, f"{name}{AT}shape", shape.newShape)],
            flat,
            shape,
            schema.BuiltinOptions.ReshapeOptions,
        )
    ]
    parts = []
    for t in range(steps):
        parts.append(graph.add_tensor(x, f"{name}{AT}{t}".encode(), shape=[batch, width]))
        begin = _integers(graph, f"{name}{AT}{t}.begin", [0, t * width])
        options = schema.BuiltinOptions.SliceOptions
        operators.append(_operator(graph, Op.SLICE, [flat, begin, size], parts[-1], schema.SliceOptionsT(), options))
    return operators, parts, sequence


def _operator(graph: Graph, kind: int, inputs: list[int], output: int, options: Any, options_type: int) -> Any:
    made = schema.OperatorT()
    made.opcodeIndex = graph.opcode(kind, 2 if kind == Op.SLICE else 1)  # slices of int8 came with version 2
    made.inputs, made.outputs = inputs, [output]
    made.builtinOptions, made.builtinOptionsType = options, options_type
    return made


def _integers(graph: Graph, name: str, values: list[int]) -> int:
    tensor = schema.TensorT()
    tensor.type, tensor.name, tensor.buffer = schema.TensorType.INT32, name.encode(), 0
    graph.sub.tensors.append(tensor)
    index = len(graph.sub.tensors) - 1
    graph.set_data(index, np.array(values, np.int32))
    return index


def _zeros(graph: Graph, state: int) -> int:
    """A state before the first step: the code of zero, or zero."""
    tensor = graph.sub.tensors[state]
    shape = graph.shape(state)
    if tensor.type == schema.TensorType.INT8:
        array = np.full(shape, tensor.quantization.zeroPoint[0], np.int8)
    else:
        array = np.zeros(shape, np.float32)
    return graph.add_tensor(state, tensor.name + f"{AT}start".encode(), array)


def _copied(graph: Graph, tensor: int, step: int) -> int:
    """The same tensor of one step."""
    name = graph.sub.tensors[tensor].name + f"{AT}{step}".encode()
    return graph.add_tensor(tensor, name, shape=graph.shape(tensor))


def _check_grids(graph: Graph, given: int, made: int) -> None:
    """What a step gives must be what the next one takes, code by code."""
    one, other = graph.sub.tensors[given], graph.sub.tensors[made]
    if one.type != other.type or _grid(one) != _grid(other):
        raise FormatError(
            f"the state leaves a step with the grid {_grid(other)} and enters it with {_grid(one)}",
            f"state {one.name.decode()}",
            "report this: both are one edge of the quantisation table",
        )


def _grid(tensor: Any) -> tuple[list[float], list[int]] | None:
    grid = tensor.quantization
    if grid is None or grid.scale is None:
        return None
    return [float(scale) for scale in grid.scale], [int(point) for point in grid.zeroPoint]
