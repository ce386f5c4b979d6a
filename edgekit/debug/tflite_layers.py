"""The layers of a TFLite graph: float, or in integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgekit.debug.kinds import ACTIVATIONS, MOVE, TAKES_ACTIVATION, WEIGHTED, kind_named
from edgekit.debug.layers import INPUT, Grid, Layer, Weight
from edgekit.errors import FormatError
from edgekit.formats.tflite.graph import Graph

_Type = schema.TensorType
_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_NUMPY: dict[int, Any] = {
    _Type.FLOAT32: np.float32,
    _Type.FLOAT16: np.float16,
    _Type.INT8: np.int8,
    _Type.UINT8: np.uint8,
    _Type.INT16: np.int16,
    _Type.INT32: np.int32,
    _Type.INT64: np.int64,
}
_LIMITS = {_Type.INT8: (-128, 127), _Type.UINT8: (0, 255), _Type.INT16: (-32768, 32767)}
_HIGH = {_Type.INT4: 7, _Type.INT8: 127, _Type.UINT8: 127, _Type.INT16: 32767}


class TfliteLayers:
    """The layers of the main graph, and the tensor that each of them ends in.

    Attributes:
        ends: name of a layer -> index of the tensor that it writes.
    """

    def __init__(self, model: Any) -> None:
        self.graph = Graph(model)
        self.sub = self.graph.sub
        self._active = {int(tensor) for tensor in self.sub.inputs}
        for op in self.sub.operators:
            if self._active.intersection(map(int, op.inputs)):
                self._active.update(map(int, op.outputs))
        self.ends: dict[str, int] = {}
        self._owners: dict[int, str] = {}
        self.layers = tuple(self._find_layers())

    def grid(self, tensor: int) -> Grid | None:
        """Grid of a tensor of codes; None for a float one."""
        found = self.sub.tensors[tensor]
        if found.type not in _LIMITS or found.quantization is None or found.quantization.scale is None:
            return None
        zero_points = found.quantization.zeroPoint
        zero_point = 0 if zero_points is None or not len(zero_points) else int(zero_points[0])
        return Grid(float(found.quantization.scale[0]), zero_point, *_LIMITS[found.type])

    def dtype(self, tensor: int) -> str:
        """Of a tensor's arithmetic, as `Layer` calls it."""
        return "float16" if self.sub.tensors[tensor].type == _Type.FLOAT16 else "float32"

    def numpy_type(self, tensor: int) -> Any:
        """What a tensor is fed as.

        Raises:
            FormatError: numpy has no such type.
        """
        kind = self.sub.tensors[tensor].type
        if kind not in _NUMPY:
            raise FormatError(f"a tensor of type {kind}", self.name(tensor), "compare another format of this network")
        return _NUMPY[kind]

    def name(self, tensor: int) -> str:
        """Name of a tensor; its number where it has none."""
        return (self.sub.tensors[tensor].name or b"").decode("utf-8", "replace") or f"tensor {tensor}"

    def operator(self, op: Any) -> str:
        """Name of a builtin operator, such as `CONV_2D`. Older files say it in another field."""
        code = self.graph.model.operatorCodes[op.opcodeIndex]
        name: str = _NAMES.get(max(int(code.builtinCode), int(code.deprecatedBuiltinCode)), "CUSTOM")
        return name

    def _find_layers(self) -> Iterator[Layer]:
        for tensor in map(int, self.sub.inputs):
            name, end = f"input:{self.name(tensor)}", self._requantised(tensor)
            shape = self.graph.shape(tensor)
            shape = [shape[axis] for axis in (0, 3, 1, 2)] if len(shape) == 4 else shape
            layer = Layer(name, self.name(tensor), INPUT, (), self.grid(end), dtype=self.dtype(tensor))
            yield self._own(end, replace(layer, shape=tuple(shape)))
        inside: set[int] = set()
        for op in self.sub.operators:
            anchor = int(op.outputs[0])
            kind = self._kind(op)
            if anchor not in self._active or anchor in inside or kind == MOVE:
                continue
            activated = kind in TAKES_ACTIVATION and bool(getattr(op.builtinOptions, "fusedActivationFunction", 0))
            end = anchor
            user = self._only_reader(end)
            if kind in TAKES_ACTIVATION and user is not None and self._kind(user) in ACTIVATIONS:
                end, activated = int(user.outputs[0]), True
                inside.add(end)
            end = self._requantised(end)
            weight = self._weight(op, kind)
            layer = Layer(
                name=self._unique(self.name(anchor)),
                tensor=self.name(end),
                kind=kind,
                sources=tuple(dict.fromkeys(s for item in op.inputs for s in self._sources(int(item)))),
                grid=self.grid(end),
                weight=weight,
                bias=self._bias(op) if weight is not None else None,
                activated=activated,
                dtype=self.dtype(end),
            )
            yield self._own(end, layer)

    def _own(self, tensor: int, layer: Layer) -> Layer:
        self.ends[layer.name] = tensor
        self._owners[tensor] = layer.name
        return replace(layer, dynamic=self._is_rounded_by_readers(tensor))

    def _kind(self, op: Any) -> str:
        operands = sum(int(tensor) in self._active for tensor in op.inputs)
        return kind_named(self.operator(op), operands)

    def _unique(self, name: str) -> str:
        """Of the names of all that a converter fused, the last operator's; one may come twice."""
        name = name.partition(";")[0]
        names = (f"{name}#{i}" if i > 1 else name for i in range(1, len(self.ends) + 2))
        return next(found for found in names if found not in self.ends)

    def _requantised(self, tensor: int) -> int:
        """What QUANTIZE makes of a tensor that nothing else reads; else the tensor itself."""
        user = self._only_reader(tensor)
        if user is not None and self.operator(user) == "QUANTIZE":
            return self._requantised(int(user.outputs[0]))
        return tensor

    def _only_reader(self, tensor: int) -> Any:
        readers = self.graph.readers(tensor)
        return readers[0] if len(readers) == 1 and tensor not in self.sub.outputs else None

    def _sources(self, tensor: int) -> Iterator[str]:
        if tensor in self._owners:
            yield self._owners[tensor]
        elif tensor in self._active and (maker := self.graph.maker(tensor)) is not None:
            for item in maker.inputs:
                yield from self._sources(int(item))

    def _stored(self, tensor: int) -> int:
        """The constant itself, where what an operator reads is a constant behind DEQUANTIZE."""
        maker = self.graph.maker(tensor)
        if maker is not None and self.operator(maker) == "DEQUANTIZE":
            return int(maker.inputs[0])
        return tensor

    def _weight(self, op: Any, kind: str) -> Weight | None:
        """Weight of a convolution or linear layer, (C_out, C_in / groups, *kernel)."""
        if kind not in WEIGHTED or len(op.inputs) < 2 or int(op.inputs[1]) in self._active:
            return None
        tensor = self._stored(int(op.inputs[1]))
        found = self.sub.tensors[tensor]
        codes = self._content(tensor)
        if codes is None:
            return None
        values = codes.astype(np.float32)
        step: NDArray[np.float64] = np.zeros((1,) * values.ndim)
        quantisation = found.quantization
        if found.type == _Type.FLOAT16:
            step = np.spacing(np.abs(codes)).astype(np.float64)
        elif found.type in _HIGH and quantisation is not None:
            step, zero_points = self._scales(quantisation, values.shape)
            values = (values - zero_points) * step.astype(np.float32)
        order = {"DEPTHWISE_CONV_2D": (3, 0, 1, 2), "CONV_2D": (0, 3, 1, 2)}.get(self.operator(op))
        if order is not None:
            values, step = values.transpose(order), step.transpose(order)
        return Weight(np.ascontiguousarray(values), step, _HIGH.get(found.type, 0))

    def _scales(self, quantisation: Any, shape: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Scale and zero point, broadcast over a weight: of the tensor, of each channel, or of blocks of a row."""
        if quantisation.detailsType == schema.QuantizationDetails.BlockwiseQuantization:
            scales = self._content(quantisation.details.scales)
            assert scales is not None
            blocks = scales.astype(np.float64).reshape(shape[0], -1)
            return np.repeat(blocks, quantisation.details.blockSize, 1)[:, : shape[1]], np.zeros((1, 1), np.float32)
        sizes = [1] * len(shape)
        sizes[quantisation.quantizedDimension if len(quantisation.scale) > 1 else 0] = -1
        zero_points = np.asarray(quantisation.zeroPoint, np.float32).reshape(sizes)
        return np.asarray(quantisation.scale, np.float64).reshape(sizes), zero_points

    def _is_rounded_by_readers(self, tensor: int) -> bool:
        """Whether a hybrid kernel reads it: a float operator with an integer weight, which rounds what comes in."""
        for reader in self.graph.readers(tensor):
            kind = self._kind(reader)
            if kind == MOVE and self._is_rounded_by_readers(int(reader.outputs[0])):
                return True
            if kind in WEIGHTED and len(reader.inputs) > 1 and int(reader.inputs[0]) == tensor:
                types = [self.sub.tensors[int(item)].type for item in reader.inputs[:2]]
                if types[0] == _Type.FLOAT32 and types[1] in _HIGH:
                    return True
        return False

    def _bias(self, op: Any) -> NDArray[np.float32] | None:
        if len(op.inputs) < 3 or int(op.inputs[2]) < 0:
            return None
        tensor = self._stored(int(op.inputs[2]))
        values = self._content(tensor)
        if values is None:
            return None
        quantisation = self.sub.tensors[tensor].quantization
        if values.dtype.kind == "i" and quantisation is not None and quantisation.scale is not None:
            values = values.astype(np.float64) * quantisation.scale
        return values.astype(np.float32).reshape(-1)

    def _content(self, tensor: int) -> NDArray[Any] | None:
        kind = self.sub.tensors[tensor].type
        if kind == _Type.INT4:
            packed = self.graph.model.buffers[self.sub.tensors[tensor].buffer].data
            if packed is None or len(packed) == 0:
                return None
            pairs = np.frombuffer(bytes(packed), np.uint8)
            codes = np.stack([pairs & 15, pairs >> 4], 1).reshape(-1).astype(np.int8)
            shape = self.graph.shape(tensor)
            signed: NDArray[Any] = np.where(codes > 7, codes - 16, codes)[: int(np.prod(shape))].reshape(shape)
            return signed
        return self.graph.data(tensor, _NUMPY[kind]) if kind in _NUMPY else None
