"""One step of a recurrent network as a graph -> the graph of a whole sequence, with weights stored once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

AT = "@"  # between the name of a node or tensor and the number of its step


def unroll(content: bytes, feedback: Mapping[str, str], steps: int) -> bytes:
    """Repeat the graph of one step; the file then takes a sequence (N, T, C) and gives the answer after the last.

    A state goes from step to step as codes, where the step quantises what it takes by the grid of what it gives. Before
    the first step it is zero. What only the answer needs is computed once, and what stored tensors make is shared.

    Args:
        feedback: output -> input that it goes into.
        steps: T.
    """
    model = onnx.load_from_string(content)
    _repeat(model.graph, feedback, steps)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def count_nodes(content: bytes) -> int:
    """Nodes in the graph of a file, Q and DQ among them."""
    return len(onnx.load_from_string(content).graph.node)


def _repeat(graph: onnx.GraphProto, feedback: Mapping[str, str], steps: int) -> None:
    step = _Step(graph, feedback)
    stored = [*graph.initializer]
    first, shape, made = _sequence(step, steps)
    stored.append(shape)
    nodes = [*step.shared, *made]
    values = {}
    for state in step.states:
        stored.append(state.zero(graph))
        values[state.given] = stored[-1].name
    for t in range(steps):
        values[step.input] = f"{step.input}{AT}{t}"
        names = dict(values)
        part, end = (step.last, step.answer) if t == steps - 1 else (step.inside, None)
        for number, node in part:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{node.name}{AT}{t}"
            for place, name in enumerate(node.output):
                names[name] = name if name in ("", end) else f"{number}.{place}{AT}{t}"
            copy.input[:] = [names.get(name, name) for name in node.input]
            copy.output[:] = [names[name] for name in node.output]
            nodes.append(copy)
        values = {state.given: names[state.made] for state in step.states if state.made in names}
    del graph.node[:], graph.initializer[:], graph.input[:], graph.output[1:]
    graph.node.extend(nodes)
    graph.initializer.extend(stored)
    graph.input.append(first)


class _State:
    """What one step gives and the next one takes: `made` and `given`, codes where both ends have the same grid."""

    def __init__(self, graph: onnx.GraphProto, made: str, given: str) -> None:
        value = next(value for value in graph.input if value.name == given)
        self.shape = _shape(value)
        self._dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        self.made, self.given, self._zero_point = made, given, ""
        quantise = _only_reader(graph, given)
        real = next((node for node in graph.node if made in node.output), None)
        if quantise is None or quantise.op_type != "QuantizeLinear":
            return
        if real is None or real.op_type != "DequantizeLinear" or not _same(graph, quantise.input[1:], real.input[1:]):
            return
        self.made, self.given, self._zero_point = real.input[0], quantise.output[0], quantise.input[2]

    def zero(self, graph: onnx.GraphProto) -> onnx.TensorProto:
        """The state before the first step, stored."""
        if not self._zero_point:
            return numpy_helper.from_array(np.zeros(self.shape, self._dtype), f"{self.given}{AT}start")
        zero_point = _stored(graph, self._zero_point)
        return numpy_helper.from_array(np.full(self.shape, zero_point, zero_point.dtype), f"{self.given}{AT}start")


class _Step:
    """The graph of one step: its ends, and the nodes between them."""

    def __init__(self, graph: onnx.GraphProto, feedback: Mapping[str, str]) -> None:
        self.graph = graph
        self.states = [_State(graph, made, given) for made, given in feedback.items()]
        self.sequence = graph.input[0]
        quantise = _only_reader(graph, self.sequence.name)
        self.quantise = quantise if quantise is not None and quantise.op_type == "QuantizeLinear" else None
        self.input = self.sequence.name if self.quantise is None else self.quantise.output[0]
        self.answer = graph.output[0].name
        ends = {self.input, *(state.given for state in self.states)}
        self.shared: list[onnx.NodeProto] = []
        known = {"", *(tensor.name for tensor in graph.initializer)}
        for node in graph.node:
            if known.issuperset(node.input):
                self.shared.append(node)
                known.update(node.output)
        self._known = known
        self.inside = self._needed([state.made for state in self.states], ends)
        self.last = self._needed([self.answer], ends)

    def _needed(self, outputs: Iterable[str], ends: set[str]) -> list[tuple[int, onnx.NodeProto]]:
        """Nodes between the ends and `outputs`, in order, with their numbers."""
        wanted, found = set(outputs) - ends, []
        for number, node in reversed(list(enumerate(self.graph.node))):
            if wanted.intersection(node.output):
                found.append((number, node))
                wanted.update(set(node.input) - ends - self._known)
        return found[::-1]


def _sequence(step: _Step, steps: int) -> tuple[onnx.ValueInfoProto, onnx.TensorProto, list[onnx.NodeProto]]:
    """The input of the whole graph, and what cuts it into one input for each step, in codes where a step has codes.

    The shape that it first gets is a stored tensor: ONNX Runtime's shape inference does not read `value_ints`.
    """
    name, (batch, width) = step.sequence.name, _shape(step.sequence)
    nodes = []
    source = name
    if step.quantise is not None:
        source = f"{step.input}{AT}all"
        nodes.append(helper.make_node("QuantizeLinear", [name, *step.quantise.input[1:]], [source]))
    flat, shape = f"{source}{AT}flat", f"{name}{AT}shape"
    nodes.append(helper.make_node("Reshape", [source, shape], [flat]))
    parts = [f"{step.input}{AT}{t}" for t in range(steps)]
    if steps == 1:
        nodes[-1].output[0] = parts[0]
    else:
        nodes.append(helper.make_node("Split", [flat], parts, axis=1, num_outputs=steps))
    elem_type = step.sequence.type.tensor_type.elem_type
    flattened = numpy_helper.from_array(np.array([batch, steps * width], np.int64), shape)
    return helper.make_tensor_value_info(name, elem_type, [batch, steps, width]), flattened, nodes


def _only_reader(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    readers = [node for node in graph.node if name in node.input]
    return readers[0] if len(readers) == 1 else None


def _same(graph: onnx.GraphProto, names: Iterable[str], others: Iterable[str]) -> bool:
    """Whether scale and zero point are stored with the same values."""
    return all(
        np.array_equal(_stored(graph, name), _stored(graph, other)) for name, other in zip(names, others, strict=True)
    )


def _stored(graph: onnx.GraphProto, name: str) -> np.ndarray:
    for tensor in graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    node = next(node for node in graph.node if name in node.output)
    return np.asarray(numpy_helper.to_array(node.attribute[0].t))


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]
