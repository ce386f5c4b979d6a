"""Stored tensors of an ONNX graph, what the graph makes of them before it uses them, and how fine their codes are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from edgekit.debug.layers import Weight

_Type = onnx.TensorProto
SMALL: dict[int, tuple[int, int]] = {_Type.INT4: (-8, 7), _Type.UINT4: (0, 15)}  # numpy has no limits of them
_HIGH: dict[int, int] = {_Type.INT8: 127, _Type.UINT8: 127, _Type.INT4: 7, _Type.INT16: 32767}
_BY_BITS: dict[int, Any] = {
    _Type.FLOAT16: np.uint16,
    _Type.BFLOAT16: np.uint16,
    _Type.FLOAT8E4M3FN: np.uint8,
    _Type.FLOAT8E5M2: np.uint8,
}


class Constants:
    """What a graph stores, by name."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.stored = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}
        self._found: dict[str, NDArray[Any] | None] = {}

    def value(self, name: str) -> NDArray[Any] | None:
        """Content of a tensor that is stored, or made of stored ones alone; None for any other."""
        if name not in self._found:
            self._found[name] = self._evaluate(name, {})
        return self._found[name]

    def weight(self, name: str) -> Weight | None:
        """A tensor as a weight, with the distance from each of its numbers to the next that its codes could say.

        What that is, is found by decoding the next codes: so it holds for integers, halves, 8-bit floats and tables.
        """
        values = self.value(name)
        codes = self._codes(name)
        if values is None or codes is None:
            return None
        step = np.full(values.shape, np.inf)
        table = any(node.op_type == "Gather" for node in self._path(name))
        for changed in _neighbours(self.stored[codes], looked_up=table):
            other = self._evaluate(name, {codes: changed})
            assert other is not None
            distance = np.abs(other.astype(np.float64) - values)
            step = np.where((distance > 0) & (distance < step), distance, step)
        high = 0 if table else _HIGH.get(self.stored[codes].data_type, 0)
        return Weight(values.astype(np.float32), np.where(np.isfinite(step), step, 0.0), high)

    def _codes(self, name: str) -> str | None:
        """The largest stored tensor that another is made of, but the table that codes are looked up in."""
        path = list(self._path(name))
        held = {item for node in path for item in node.input if item in self.stored}
        held -= {node.input[0] for node in path if node.op_type == "Gather"}
        held |= {name} & self.stored.keys()
        return max(held, key=lambda item: (int(np.prod(self.stored[item].dims)), item), default=None)

    def _path(self, name: str) -> Iterator[onnx.NodeProto]:
        node = self._makers.get(name)
        if node is not None:
            yield node
            for item in node.input:
                yield from self._path(item)

    def _evaluate(self, name: str, changed: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
        if name in changed:
            return changed[name]
        if name in self.stored:
            return numpy_helper.to_array(self.stored[name])
        node = self._makers.get(name)
        if node is None or node.domain not in ("", "ai.onnx"):
            return None
        inputs = {item: self._evaluate(item, changed) for item in node.input if item}
        if any(found is None for found in inputs.values()):
            return None
        if node.op_type == "DequantizeLinear":
            return _dequantised(node, [inputs[item] for item in node.input if item])
        try:
            found: Any = ReferenceEvaluator(node).run(None, inputs)
        except Exception:  # it raises many kinds for what it does not know: that is no constant that can be read
            return None
        return np.asarray(found[list(node.output).index(name)])


def _dequantised(node: onnx.NodeProto, inputs: list[Any]) -> NDArray[Any]:
    scale, zero_point = spread(node, inputs)
    real: NDArray[Any] = (inputs[0].astype(np.float32) - zero_point) * scale
    return real


def spread(node: onnx.NodeProto, inputs: list[Any]) -> tuple[Any, Any]:
    """Scale and zero point of a Q or DQ, shaped so that they broadcast over its first input."""
    values, scale = inputs[0], inputs[1]
    zero_point = inputs[2] if len(inputs) > 2 else np.zeros((), np.float32)
    if scale.size == 1:
        return scale.reshape(()), zero_point.astype(np.float32).reshape(-1)[0]
    axis = attribute(node, "axis", 1) % values.ndim
    zero_point = np.broadcast_to(zero_point, scale.shape).astype(np.float32)
    if block := attribute(node, "block_size", 0):
        keep = tuple(slice(None) if i < axis else slice(values.shape[axis]) for i in range(axis + 1))
        return np.repeat(scale, block, axis)[keep], np.repeat(zero_point, block, axis)[keep]
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    return scale.reshape(shape), zero_point.reshape(shape)


def _neighbours(tensor: onnx.TensorProto, *, looked_up: bool) -> Iterator[NDArray[Any]]:
    """Codes one above and one below, within their type; those that are looked up, within what is stored of them."""
    codes = numpy_helper.to_array(tensor)
    if tensor.data_type in _BY_BITS:
        bits = codes.view(_BY_BITS[tensor.data_type])
        for step in (1, -1):
            yield (bits + np.array(step).astype(bits.dtype)).view(codes.dtype)
    elif tensor.data_type in SMALL or codes.dtype.kind in "iu":
        whole = codes.astype(np.int32)
        low, high = (int(whole.min()), int(whole.max())) if looked_up else _limits(tensor.data_type, codes.dtype)
        for step in (1, -1):
            yield np.clip(whole + step, low, high)


def _limits(kind: int, dtype: np.dtype[Any]) -> tuple[int, int]:
    return SMALL[kind] if kind in SMALL else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


def unpacked(node: onnx.NodeProto, constants: Constants) -> Weight | None:
    """The weight of ONNX Runtime's MatMulNBits, (C_out, C_in). Source: its operator reference, com.microsoft."""
    packed, scale = (constants.value(name) for name in node.input[1:3])
    rows, columns = attribute(node, "N", 0), attribute(node, "K", 0)
    bits, block = attribute(node, "bits", 4), attribute(node, "block_size", 0)
    if packed is None or scale is None or bits not in (4, 8):
        return None
    stored = packed.reshape(rows, -1, packed.shape[-1])
    codes = stored if bits == 8 else np.stack([stored & 15, stored >> 4], -1).reshape(rows, stored.shape[1], -1)
    zero_point = _block_zero_points(node, constants, bits, codes.shape[:2])
    if zero_point is None:
        return None
    scales = scale.reshape(rows, -1, 1).astype(np.float32)
    values = ((codes.astype(np.float32) - zero_point) * scales).reshape(rows, -1)[:, :columns]
    step = np.repeat(scales[..., 0], block, 1)[:, :columns]
    return Weight(np.ascontiguousarray(values), step.astype(np.float64), (1 << (bits - 1)) - 1)


def _block_zero_points(
    node: onnx.NodeProto, constants: Constants, bits: int, shape: tuple[int, ...]
) -> NDArray[np.float32] | None:
    if len(node.input) < 4 or not node.input[3]:
        return np.full((*shape, 1), 1 << (bits - 1), np.float32)
    stored = constants.value(node.input[3])
    if stored is None:
        return None
    if bits == 4 and stored.dtype == np.uint8:
        rows = stored.reshape(shape[0], -1)
        stored = np.stack([rows & 15, rows >> 4], -1).reshape(shape[0], -1)[:, : shape[1]]
    return stored.reshape(*shape, 1).astype(np.float32)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Value of a node's attribute."""
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default
