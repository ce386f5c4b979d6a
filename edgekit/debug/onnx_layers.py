"""The layers of an ONNX graph: float, Q/DQ, or with weights as codes that kernels of ONNX Runtime read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgekit.debug.kinds import ACTIVATIONS, MOVE, TAKES_ACTIVATION, WEIGHTED, kind_named
from edgekit.debug.layers import INPUT, Grid, Layer, Weight
from edgekit.debug.onnx_constants import SMALL, Constants, attribute, unpacked
from edgekit.errors import FormatError

_Q, _DQ, _DYNAMIC = "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"
_NO_DATA = frozenset({"Shape", "Size", "ConstantOfShape", "Range", "NonZero"})  # sizes, not activations
_INTEGER_FORM = ("QLinear", "QGemm")
_SUMS = frozenset({"MatMulInteger", "ConvInteger"})  # of codes; a Cast and a Mul behind them make real numbers of those
_Type = onnx.TensorProto
_FLOATS: dict[int, str] = {_Type.FLOAT: "float32", _Type.FLOAT16: "float16", _Type.BFLOAT16: "bfloat16"}
_INTEGERS = 4  # accuracy_level of MatMulNBits at which it rounds its input to 8 bits


@dataclass
class _Chain:
    """An operator and what its layer takes in behind it."""

    anchor: onnx.NodeProto
    kind: str
    end: str
    activated: bool = False
    normed: bool = False
    bias: NDArray[Any] | None = None
    scale: NDArray[Any] | None = None


class OnnxLayers:
    """The layers of a graph, and the tensor that each of them ends in.

    Attributes:
        ends: name of a layer -> the float tensor that it writes.
        pairs: name of a layer -> the Q that reads this tensor, where one does.

    Raises:
        FormatError: the graph is in the QOperator form instead of Q/DQ.
    """

    def __init__(self, graph: onnx.GraphProto, where: str) -> None:
        self.graph = graph
        for node in graph.node:
            if node.op_type.startswith(_INTEGER_FORM):
                raise FormatError(
                    f"{node.op_type} computes in integers without Q/DQ pairs around a float operator",
                    f"{where}, node {node.name or node.output[0]}",
                    "export in the QDQ form, whose layers can be run one by one",
                )
        self._constants = Constants(graph)
        self._makers = {name: node for node in graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._outputs = {value.name for value in graph.output}
        self._types = _types(graph)
        self.inputs = [value for value in graph.input if value.name not in self._constants.stored]
        self._active = self._find_active()
        self.ends: dict[str, str] = {}
        self.pairs: dict[str, onnx.NodeProto] = {}
        self._owners: dict[str, str] = {}
        self.layers = tuple(self._find_layers())

    def grid(self, node: onnx.NodeProto) -> Grid | None:
        """The grid of a Q with one scale; None for any other."""
        scale = self._constants.value(node.input[1])
        stored = self._constants.stored.get(node.input[2]) if len(node.input) > 2 else None
        zero_point = self._constants.value(node.input[2]) if len(node.input) > 2 else np.zeros((), np.uint8)
        if scale is None or zero_point is None or scale.size != 1:
            return None
        if stored is not None and stored.data_type in SMALL:
            qmin, qmax = SMALL[stored.data_type]
        elif zero_point.dtype.kind in "iu":
            qmin, qmax = int(np.iinfo(zero_point.dtype).min), int(np.iinfo(zero_point.dtype).max)
        else:
            return None  # float8: no affine grid
        return Grid(float(scale.reshape(-1)[0]), int(zero_point.reshape(-1)[0]), qmin, qmax)

    def _find_active(self) -> set[str]:
        """Tensors that depend on the network's inputs by value. Scales that are found on the way are none."""
        active = {value.name for value in self.inputs}
        for node in self.graph.node:
            if node.op_type not in _NO_DATA and active.intersection(node.input):
                active.update(node.output[:1] if node.op_type == _DYNAMIC else node.output)
        return active

    def _find_layers(self) -> Iterator[Layer]:
        for value in self.inputs:
            held = value.type.tensor_type
            shape = tuple(dim.dim_value for dim in held.shape.dim)
            dtype = _FLOATS.get(held.elem_type, "integer")
            name = f"input:{value.name}"
            yield self._own(Layer(name, value.name, INPUT, (), dtype=dtype, shape=shape))
        inside: set[str] = set()
        for node in self.graph.node:
            anchor = node.output[0] if node.output else ""
            kind = self._kind(node)
            if anchor not in self._active or anchor in inside or kind == MOVE:
                continue
            chain = self._follow(_Chain(node, kind, anchor), inside)
            weight = None if chain.normed else self._weight(chain)
            bias = chain.bias if chain.bias is not None else self._bias(node)
            yield self._own(
                Layer(
                    name=anchor,
                    tensor=chain.end,
                    kind=kind,
                    sources=tuple(dict.fromkeys(s for item in node.input for s in self._sources(item))),
                    weight=weight,
                    bias=None if bias is None or weight is None else bias.reshape(-1).astype(np.float32),
                    activated=chain.activated,
                    dtype=_FLOATS.get(self._types.get(chain.end, _Type.FLOAT), "float32"),
                )
            )

    def _own(self, layer: Layer) -> Layer:
        """Note where a layer ends, and add what its readers make of it."""
        name, tensor = layer.name, layer.tensor
        self.ends[name] = tensor
        self._owners[tensor] = name
        readers = self._readers.get(tensor, [])
        pair = next((node for node in readers if node.op_type == _Q and self.grid(node) is not None), None)
        if pair is not None:
            self.pairs[name] = pair
        return replace(layer, grid=self._grid_behind(tensor), dynamic=self._is_rounded_by_readers(tensor))

    def _grid_behind(self, tensor: str) -> Grid | None:
        """The grid that a tensor is rounded to, at once or after it has been moved."""
        readers = self._readers.get(tensor, [])
        for reader in sorted(readers, key=lambda node: node.op_type != _Q):
            if reader.op_type == _Q:
                return self.grid(reader)
            if self._kind(reader) == MOVE and (grid := self._grid_behind(reader.output[0])) is not None:
                return grid
        return None

    def _is_rounded_by_readers(self, tensor: str) -> bool:
        return any(
            reader.op_type == _DYNAMIC
            or (reader.op_type == "MatMulNBits" and attribute(reader, "accuracy_level", 0) == _INTEGERS)
            or (self._kind(reader) == MOVE and self._is_rounded_by_readers(reader.output[0]))
            for reader in self._readers.get(tensor, [])
        )

    def _kind(self, node: onnx.NodeProto) -> str:
        if node.op_type in (_Q, _DQ, _DYNAMIC):
            return MOVE
        operands = sum(name in self._active for name in node.input)
        if node.op_type == "MatMul" and operands == 1:
            return "linear"
        return kind_named(node.op_type, operands)

    def _follow(self, chain: _Chain, inside: set[str]) -> _Chain:
        """Take in what only reads the layer and belongs to it; a pair on the way is looked through."""
        while True:
            tensor = chain.end
            while True:
                readers = self._readers.get(tensor, [])
                if len(readers) != 1 or tensor in self._outputs:
                    return chain
                (user,) = readers
                if user.op_type not in (_Q, _DQ):
                    break
                tensor = user.output[0]
            if len(self._active.intersection(user.input)) != 1 or not self._take_in(chain, user, tensor):
                return chain
            inside.add(user.output[0])
            chain.end = user.output[0]

    def _take_in(self, chain: _Chain, user: onnx.NodeProto, tensor: str) -> bool:
        """Whether `user`, with one activation among its inputs, is part of the layer; what it does to it is noted."""
        others = [name for name in user.input if name != tensor]
        summed = chain.anchor.op_type in _SUMS
        if user.op_type == "BatchNormalization" and chain.kind in WEIGHTED:
            chain.normed = True
            return True
        if summed and chain.scale is None and user.op_type in ("Cast", "Mul"):
            if user.op_type == "Mul":
                maker = self._makers.get(others[0])
                found = [self._constants.value(name) for name in (maker.input if maker is not None else ())]
                chain.scale = next((item for item in found if item is not None), np.ones(1, np.float32))
            return True
        if user.op_type == "Add" and chain.kind == "linear" and chain.bias is None and not chain.activated:
            chain.bias = self._constants.value(others[0])
            return chain.bias is not None and chain.bias.size == chain.bias.shape[-1]
        if chain.kind in TAKES_ACTIVATION and kind_named(user.op_type) in ACTIVATIONS:
            chain.activated = True
            return True
        return False

    def _sources(self, tensor: str) -> Iterator[str]:
        if tensor in self._owners:
            yield self._owners[tensor]
        elif tensor in self._active and tensor in self._makers:
            for item in self._makers[tensor].input:
                yield from self._sources(item)

    def _weight(self, chain: _Chain) -> Weight | None:
        """Weight of a convolution or linear layer, (C_out, C_in / groups, *kernel)."""
        node = chain.anchor
        if chain.kind not in WEIGHTED:
            return None
        if node.op_type == "MatMulNBits":
            return unpacked(node, self._constants)
        position = next((i for i, name in enumerate(node.input) if name not in self._active), None)
        found = None if position is None else self._constants.weight(node.input[position])
        if found is None or found.values.ndim < 2:
            return None
        values, step = found.values, found.step
        if chain.scale is not None:  # (C_out,), behind the sums of codes
            scale = chain.scale.reshape(-1, *[1] * (values.ndim - 2)) if node.op_type == "ConvInteger" else chain.scale
            values, step = values * scale, step * scale
        if chain.kind == "linear" and not (node.op_type == "Gemm" and attribute(node, "transB", 0)):
            values, step = values.swapaxes(-1, -2), step.swapaxes(-1, -2)
        return Weight(np.ascontiguousarray(values, np.float32), step, found.high)

    def _bias(self, node: onnx.NodeProto) -> NDArray[Any] | None:
        position = 5 if node.op_type == "MatMulNBits" else 2
        if node.op_type in _SUMS or len(node.input) <= position or not node.input[position]:
            return None
        return self._constants.value(node.input[position])


def _types(graph: onnx.GraphProto) -> dict[str, int]:
    """Element types as far as onnx can infer them; operators of other domains end that."""
    opset = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    inferred = onnx.shape_inference.infer_shapes(onnx.helper.make_model(graph, opset_imports=opset)).graph
    return {value.name: value.type.tensor_type.elem_type for value in [*inferred.value_info, *inferred.output]}
