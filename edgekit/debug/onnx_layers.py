"""The layers of an ONNX graph: float, or Q/DQ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgekit.debug.kinds import ACTIVATIONS, MOVE, TAKES_ACTIVATION, WEIGHTED, kind_named
from edgekit.debug.layers import INPUT, Grid, Layer, Weight
from edgekit.errors import FormatError

_Q, _DQ = ("QuantizeLinear",), ("DequantizeLinear",)
_NO_DATA = frozenset({"Shape", "Size", "ConstantOfShape", "Range", "NonZero"})  # sizes, not activations
_INTEGER_OPERATORS = ("QLinear", "QGemm", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")
_Type = onnx.TensorProto
_FLOATS = {_Type.FLOAT: "float32", _Type.FLOAT16: "float16", _Type.BFLOAT16: "bfloat16"}
_SMALL = {_Type.INT4: (-8, 7), _Type.UINT4: (0, 15)}


class OnnxLayers:
    """The layers of a graph, and the tensor that each of them ends in.

    Attributes:
        ends: name of a layer -> the float tensor that it writes.
        pairs: name of a layer -> the Q that reads this tensor, where one does.

    Raises:
        FormatError: the graph runs in integer operators instead of Q/DQ pairs.
    """

    def __init__(self, graph: onnx.GraphProto, where: str) -> None:
        self.graph = graph
        for node in graph.node:
            if node.op_type.startswith(_INTEGER_OPERATORS):
                raise FormatError(
                    f"{node.op_type} computes in integers without Q/DQ pairs around a float operator",
                    f"{where}, node {node.name or node.output[0]}",
                    "export in the QDQ form, whose layers can be run one by one",
                )
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._outputs = {value.name for value in graph.output}
        self.inputs = [value for value in graph.input if value.name not in self._constants]
        self._active = self._find_active()
        self.ends: dict[str, str] = {}
        self.pairs: dict[str, onnx.NodeProto] = {}
        self._owners: dict[str, str] = {}
        self.layers = tuple(self._find_layers())

    def constant(self, name: str) -> NDArray[Any] | None:
        """Content of a tensor that is stored, or made of stored ones by Q, DQ or a change of shape; else None."""
        if name in self._constants:
            return numpy_helper.to_array(self._constants[name])
        node = self._makers.get(name)
        if node is None:
            return None
        if node.op_type == "Constant":
            return numpy_helper.to_array(node.attribute[0].t) if node.attribute[0].name == "value" else None
        found = [self.constant(item) for item in node.input if item]
        if not found or found[0] is None:
            return None
        if node.op_type == "Transpose":
            return np.transpose(found[0], attribute(node, "perm", None))
        if node.op_type in ("Identity", "Cast"):
            return found[0]
        if node.op_type == "DequantizeLinear" and found[1] is not None:
            scale, zero_point = self._spread(node, found)
            real: NDArray[Any] = (found[0].astype(np.float32) - zero_point) * scale
            return real
        if node.op_type == "QuantizeLinear" and found[1] is not None:
            scale, zero_point = self._spread(node, found)
            limits = np.iinfo(found[2].dtype if len(found) > 2 and found[2] is not None else np.uint8)
            codes: NDArray[Any] = np.clip(np.rint(found[0] / scale) + zero_point, limits.min, limits.max)
            return codes
        return None

    def grid(self, node: onnx.NodeProto) -> Grid | None:
        """The grid of a Q with one scale; None for any other."""
        scale = self.constant(node.input[1])
        stored = self._constants.get(node.input[2]) if len(node.input) > 2 else None
        zero_point = self.constant(node.input[2]) if len(node.input) > 2 else np.zeros((), np.uint8)
        if scale is None or zero_point is None or scale.size != 1:
            return None
        if stored is not None and stored.data_type in _SMALL:
            qmin, qmax = _SMALL[stored.data_type]
        elif zero_point.dtype.kind in "iu":
            qmin, qmax = int(np.iinfo(zero_point.dtype).min), int(np.iinfo(zero_point.dtype).max)
        else:
            return None  # float8: no affine grid
        return Grid(float(scale.reshape(-1)[0]), int(zero_point.reshape(-1)[0]), qmin, qmax)

    def _find_active(self) -> set[str]:
        """Tensors that depend on the network's inputs by value."""
        active = {value.name for value in self.inputs}
        for node in self.graph.node:
            if node.op_type not in _NO_DATA and active.intersection(node.input):
                active.update(node.output)
        return active

    def _find_layers(self) -> Iterator[Layer]:
        for value in self.inputs:
            name = f"input:{value.name}"
            held = value.type.tensor_type
            shape = tuple(dim.dim_value for dim in held.shape.dim)
            dtype = _FLOATS.get(held.elem_type, "integer")
            yield self._own(name, value.name, Layer(name, value.name, INPUT, (), dtype=dtype, shape=shape))
        inside: set[str] = set()
        for node in self.graph.node:
            anchor = node.output[0] if node.output else ""
            if anchor not in self._active or anchor in inside:
                continue
            kind = self._kind(node)
            if kind == MOVE:
                continue
            activated, normed, bias = False, False, None
            end = node
            while (user := self._absorbed(end, kind)) is not None:
                inside.add(user.output[0])
                activated = activated or kind_named(user.op_type) in ACTIVATIONS
                normed = normed or user.op_type == "BatchNormalization"
                if user.op_type == "Add":
                    bias = next(filter(lambda item: item is not None, map(self.constant, user.input)), None)
                end = user
            weight = None if normed else self._weight(node, kind)
            if bias is None and kind in WEIGHTED and len(node.input) > 2 and node.input[2] and not normed:
                bias = self.constant(node.input[2])
            layer = Layer(
                name=anchor,
                tensor=end.output[0],
                kind=kind,
                sources=tuple(dict.fromkeys(s for item in node.input for s in self._sources(item))),
                weight=weight,
                bias=None if bias is None or normed else bias.reshape(-1).astype(np.float32),
                activated=activated,
            )
            yield self._own(anchor, end.output[0], layer)

    def _own(self, name: str, tensor: str, layer: Layer) -> Layer:
        """Note where a layer ends, and add its grid."""
        self.ends[name] = tensor
        self._owners[tensor] = name
        for reader in self._readers.get(tensor, []):
            if reader.op_type in _Q and (grid := self.grid(reader)) is not None:
                self.pairs[name] = reader
                return replace(layer, grid=grid)
        return replace(layer, grid=self._grid_behind(tensor))

    def _grid_behind(self, tensor: str) -> Grid | None:
        """The grid that a tensor is rounded to once it has been moved."""
        for reader in self._readers.get(tensor, []):
            if reader.op_type in _Q:
                return self.grid(reader)
            if self._kind(reader) == MOVE and (grid := self._grid_behind(reader.output[0])) is not None:
                return grid
        return None

    def _kind(self, node: onnx.NodeProto) -> str:
        if node.op_type in (*_Q, *_DQ):
            return MOVE
        if node.op_type == "MatMul" and len(self._active.intersection(node.input)) == 1:
            return "linear"
        return kind_named(node.op_type, sum(name in self._active for name in node.input))

    def _absorbed(self, node: onnx.NodeProto, kind: str) -> onnx.NodeProto | None:
        """The only reader of a node, where it is part of the same layer; a pair between the two is looked through."""
        tensor = node.output[0]
        while True:
            readers = self._readers.get(tensor, [])
            if len(readers) != 1 or tensor in self._outputs:
                return None
            (user,) = readers
            if user.op_type not in (*_Q, *_DQ):
                break
            tensor = user.output[0]
        if user.op_type == "BatchNormalization":
            return user if kind in WEIGHTED else None
        if user.op_type == "Add" and node.op_type == "MatMul" and kind == "linear":
            return user if len(self._active.intersection(user.input)) == 1 else None
        if kind in TAKES_ACTIVATION and kind_named(user.op_type) in ACTIVATIONS:
            return user if len(self._active.intersection(user.input)) == 1 else None
        return None

    def _sources(self, tensor: str) -> Iterator[str]:
        if tensor in self._owners:
            yield self._owners[tensor]
        elif tensor in self._active and tensor in self._makers:
            for item in self._makers[tensor].input:
                yield from self._sources(item)

    def _spread(self, node: onnx.NodeProto, found: list[NDArray[Any] | None]) -> tuple[Any, Any]:
        """Scale and zero point of a Q or DQ, shaped so that they broadcast over its first input."""
        values, scale = found[0], found[1]
        assert values is not None
        assert scale is not None
        zero_point = found[2] if len(found) > 2 and found[2] is not None else np.zeros((), np.float32)
        if scale.ndim == 0 or scale.size == 1:
            return scale.reshape(()), zero_point.astype(np.float32).reshape(-1)[0]
        axis = attribute(node, "axis", 1) % values.ndim
        block = attribute(node, "block_size", 0)
        if block:
            spread = [np.repeat(item, block, axis) for item in (scale, np.broadcast_to(zero_point, scale.shape))]
            keep = [slice(None)] * axis + [slice(values.shape[axis])]
            return spread[0][tuple(keep)], spread[1][tuple(keep)].astype(np.float32)
        shape = [-1 if i == axis else 1 for i in range(values.ndim)]
        return scale.reshape(shape), np.broadcast_to(zero_point, scale.shape).astype(np.float32).reshape(shape)

    def _weight(self, node: onnx.NodeProto, kind: str) -> Weight | None:
        """Weight of a convolution or linear layer, (C_out, C_in / groups, *kernel)."""
        position = next((i for i, name in enumerate(node.input) if name not in self._active), None)
        if kind not in WEIGHTED or position is None:
            return None
        values = self.constant(node.input[position])
        if values is None:
            return None
        step: NDArray[np.float64] = np.zeros((1,) * values.ndim)
        high = 0
        maker = self._makers.get(node.input[position])
        if maker is not None and maker.op_type in _DQ:
            parts = [self.constant(item) for item in maker.input if item]
            step = np.asarray(self._spread(maker, parts)[0], np.float64)
            step = step if step.ndim else step.reshape((1,) * values.ndim)
            stored = self._constants.get(maker.input[0])
            high = _SMALL.get(stored.data_type, (0, 127))[1] if stored is not None else 127
        if kind == "linear" and not (node.op_type == "Gemm" and attribute(node, "transB", 0)):
            values, step = values.swapaxes(-1, -2), step.swapaxes(-1, -2)
        return Weight(np.ascontiguousarray(values, np.float32), step, high)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Value of a node's attribute."""
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default
