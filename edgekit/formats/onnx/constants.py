"""Stored numbers of an exported graph that are no weights, such as masks and positions: made once, stored once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Arrays = Sequence[NDArray[Any]]

# what a weight is read by is left out: other rewrites put codes in its place, for each layer its own
_BY_ELEMENT = ("Add", "Sub", "Mul", "Div", "Where")


def fold_masks(graph: onnx.GraphProto) -> int:
    """Store what Trilu and Equal make of stored numbers alone, equal ones once. Returns how many nodes went.

    The exporter spells a causal mask in every layer as a float matrix of ones, its triangle, and a comparison with 0:
    four bytes for each pair of steps and layer, where one byte for each pair of steps is enough.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    outputs = {output.name for output in graph.output}
    renamed: dict[str, str] = {}
    stored: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    touched: set[str] = set()
    done = 0
    for node in list(graph.node):
        node.input[:] = [renamed.get(name, name) for name in node.input]
        compute = _COMPUTED.get(node.op_type)
        known = all(name in constants for name in node.input if name)
        if compute is None or not known or node.output[0] in outputs:
            continue
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        value = compute([constants[name] for name in node.input if name], attributes)
        name = stored.setdefault((value.dtype.str, value.shape, value.tobytes()), node.output[0])
        renamed[node.output[0]], constants[name] = name, value
        touched |= {*node.input, name}
        graph.node.remove(node)
        done += 1
    used = {name for node in graph.node for name in node.input} | outputs
    for name in stored.values():
        if name in used:
            graph.initializer.append(numpy_helper.from_array(constants[name], name))
    for tensor in [t for t in graph.initializer if t.name in touched - used]:
        graph.initializer.remove(tensor)
    return done


def share_operands(graph: onnx.GraphProto) -> int:
    """Equal stored operands of sums, products and choices become one. Returns how many went.

    Layers that have the same mask or the same positions each bring a copy.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {output.name for output in graph.output}
    places = [
        (node, position)
        for node in graph.node
        if node.op_type in _BY_ELEMENT
        for position, name in enumerate(node.input)
        if name in stored
    ]
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    for node, position in places:
        tensor = stored[node.input[position]]
        content = tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes()
        node.input[position] = first.setdefault(content, tensor.name)
    used = {name for node in graph.node for name in node.input} | outputs
    gone = [tensor for tensor in graph.initializer if tensor.name not in used]
    for tensor in gone:
        graph.initializer.remove(tensor)
    return len(gone)


def _triangle(inputs: Arrays, attributes: Mapping[str, Any]) -> NDArray[Any]:
    k = int(inputs[1]) if len(inputs) > 1 else 0
    return np.triu(inputs[0], k) if attributes.get("upper", 1) else np.tril(inputs[0], k)


def _equal(inputs: Arrays, attributes: Mapping[str, Any]) -> NDArray[Any]:
    return np.asarray(inputs[0] == inputs[1])


_COMPUTED: Mapping[str, Callable[[Arrays, Mapping[str, Any]], NDArray[Any]]] = {"Trilu": _triangle, "Equal": _equal}
