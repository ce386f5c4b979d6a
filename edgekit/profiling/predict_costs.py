"""What an ONNX file computes and moves, kernel by kernel: what a latency is estimated from when nothing was measured.

Kernels are counted as a runtime would fuse them: activations, norms after a convolution, Q/DQ pairs and changes of
shape are part of the kernel before them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgekit.errors import FormatError
from edgekit.schema.target import Precision

Kind = Literal["dense", "depthwise", "linear", "other"]

BYTES: Mapping[Precision, float] = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}
# fused into what is before them, or no work at all
_FREE = frozenset(
    (
        *("QuantizeLinear", "DequantizeLinear", "Relu", "Clip", "BatchNormalization", "Identity", "Cast", "Dropout"),
        *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Shape", "Constant", "ConstantOfShape"),
    )
)
_THROUGH = frozenset(("QuantizeLinear", "DequantizeLinear", "Identity", "Cast", "Transpose"))


@dataclass(frozen=True)
class KernelCost:
    """One kernel.

    Attributes:
        name: of the node.
        tensor: name of what the node makes.
        kind: dense and depthwise are convolutions; linear are matrix products; other has no multiply-accumulates.
        macs: multiply-accumulates at the file's batch.
        values: activations read and written.
        weights: stored numbers read.
        names: what a runtime may call it: the node, and those that are fused into it, by their names and tensors.
    """

    name: str
    tensor: str
    kind: Kind
    macs: int
    values: int
    weights: int
    names: frozenset[str] = frozenset()

    def moved_bytes(self, precision: Precision) -> float:
        """Bytes of activations and weights, each moved once."""
        return (self.values + self.weights) * BYTES[precision]


@dataclass(frozen=True)
class GraphCosts:
    """A whole file: its kernels in order, and whether they compute in integers."""

    kernels: tuple[KernelCost, ...]
    precision: Precision

    @property
    def macs(self) -> int:
        """Of all kernels."""
        return sum(kernel.macs for kernel in self.kernels)


def graph_costs(path: Path) -> GraphCosts:
    """The kernels of an ONNX file with static shapes.

    Raises:
        FormatError: it cannot be read, or a shape in it is not static.
    """
    import onnx  # an extra's, as in formats/

    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    except Exception as err:  # protobuf's and onnx's own kinds
        raise FormatError(f"the file cannot be read: {err}", path.name, "name an ONNX file") from err
    graph = _Graph(model.graph, path.name)
    kernels = tuple(graph.cost(node) for node in model.graph.node if node.op_type not in _FREE)
    quantised = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    half = any(value.elem_type == onnx.TensorProto.FLOAT16 for value in graph.types.values())
    return GraphCosts(kernels, "int8" if quantised else "fp16" if half else "fp32")


class _Graph:
    def __init__(self, graph: Any, where: str) -> None:
        self._where = where
        self._weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        described = [*graph.input, *graph.output, *graph.value_info]
        self.types = {value.name: value.type.tensor_type for value in described}
        self._makers = {output: node for node in graph.node for output in node.output}
        self._users: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)

    def cost(self, node: Any) -> KernelCost:
        made = sum(self._size(name) for name in node.output if name in self.types)
        inputs = [name for name in node.input if name]
        weights = [self._stored(name) for name in inputs]
        read = sum(self._size(name) for name, stored in zip(inputs, weights, strict=True) if stored is None)
        stored = sum(math.prod(shape) for shape in weights if shape is not None)
        kind, macs = self._work(node, weights)
        name = node.name or node.output[0]
        return KernelCost(name, node.output[0], kind, macs, made + read, stored, self._names(node))

    def _names(self, node: Any) -> frozenset[str]:
        names = {node.name, *node.output}
        while len(users := self._users.get(node.output[0], [])) == 1 and users[0].op_type in _FREE:
            node = users[0]
            names |= {node.name, *node.output}
        return frozenset(names - {""})

    def _work(self, node: Any, weights: list[tuple[int, ...] | None]) -> tuple[Kind, int]:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        made = self._size(node.output[0]) if node.output[0] in self.types else 0
        if node.op_type == "Conv":
            shape = weights[1] or self._shape(node.input[1])
            groups = attributes["group"].i if "group" in attributes else 1
            return "depthwise" if groups > 1 and shape[1] == 1 else "dense", made * math.prod(shape[1:])
        if node.op_type == "ConvTranspose":
            shape = weights[1] or self._shape(node.input[1])
            return "dense", self._size(node.input[0]) * math.prod(shape[1:])
        if node.op_type == "Gemm":
            shape = self._shape(node.input[0])
            inner = shape[0] if "transA" in attributes and attributes["transA"].i else shape[-1]
            return "linear", made * inner
        if node.op_type in ("MatMul", "MatMulInteger", "MatMulNBits"):
            return "linear", made * self._shape(node.input[0])[-1]
        return "other", 0

    def _stored(self, name: str) -> tuple[int, ...] | None:
        """Shape of a stored tensor, through Q/DQ and the like; None: it is computed."""
        while name not in self._weights:
            maker = self._makers.get(name)
            if maker is None or maker.op_type not in _THROUGH | {"Constant"}:
                return None
            if maker.op_type == "Constant":
                return next((tuple(a.t.dims) for a in maker.attribute if a.name == "value"), ())
            name = maker.input[0]
        return self._weights[name]

    def _size(self, name: str) -> int:
        return math.prod(self._shape(name))

    def _shape(self, name: str) -> tuple[int, ...]:
        if name in self._weights:
            return self._weights[name]
        if name not in self.types:
            return self._unknown(name)
        dims = self.types[name].shape.dim
        if any(not dim.HasField("dim_value") for dim in dims):
            return self._unknown(name)
        return tuple(dim.dim_value for dim in dims)

    def _unknown(self, name: str) -> tuple[int, ...]:
        raise FormatError(
            f"the shape of {name} is not known", self._where, "export it with a fixed batch and static shapes"
        )
