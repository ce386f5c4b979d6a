"""Zeros among the weights of an ONNX file: what is really in it, whatever became of them on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgekit.formats.artifact import StoredWeight
from edgekit.numerics.sparsity import is_two_of_four

_RECURRENT = ("LSTM", "GRU", "RNN")
_WEIGHTS: Mapping[str, tuple[int, ...]] = {  # operator -> its inputs that are weights
    "Conv": (1,),
    "ConvTranspose": (1,),
    "Gemm": (1,),
    "MatMul": (1,),
    **dict.fromkeys(_RECURRENT, (1, 2)),
}
_THROUGH = ("DequantizeLinear", "Cast", "Transpose")  # what may stand between a stored weight and its operator


def stored_weights(path: Path) -> tuple[StoredWeight, ...]:
    """Every weight of a convolution, matrix product or recurrent operator that the file holds as a plain tensor."""
    return tuple(weights_of(onnx.load(path)))


def weights_of(proto: onnx.ModelProto) -> Iterator[StoredWeight]:
    """The same of a graph in memory; each tensor once. Codes count as zero where they stand for 0."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    makers = {name: node for node in proto.graph.node for name in node.output}
    seen: set[str] = set()
    for node in proto.graph.node:
        for index in _WEIGHTS.get(node.op_type, ()):
            path, name = _path(node.input[index], constants, makers)
            if name is None or name in seen:
                continue
            seen.add(name)
            array = numpy_helper.to_array(constants[name])
            if array.ndim < 2:
                continue
            zero = _is_zero(array, path, constants)
            yield StoredWeight(
                name=name,
                count=array.size,
                zeros=int(zero.sum()),
                value_bytes=array.dtype.itemsize,
                two_of_four=_in_fours(node, path, zero),
            )


def _path(
    name: str, constants: Mapping[str, onnx.TensorProto], makers: Mapping[str, onnx.NodeProto]
) -> tuple[list[onnx.NodeProto], str | None]:
    """The operators from a stored tensor to an input, the nearest to the input first, and the tensor's name."""
    path: list[onnx.NodeProto] = []
    while name not in constants:
        maker = makers.get(name)
        if maker is None or maker.op_type not in _THROUGH:
            return path, None
        path.append(maker)
        name = maker.input[0]
    return path, name


def _is_zero(
    array: NDArray[np.generic], path: list[onnx.NodeProto], constants: Mapping[str, onnx.TensorProto]
) -> NDArray[np.bool_]:
    zero_point: NDArray[np.generic] = np.zeros((), array.dtype)
    for node in path:
        if node.op_type == "DequantizeLinear" and len(node.input) > 2 and node.input[2] in constants:
            zero_point = numpy_helper.to_array(constants[node.input[2]])
            if zero_point.ndim == 1 and zero_point.size > 1:
                axis = _attribute(node, "axis", 1)
                zero_point = zero_point.reshape([-1 if i == axis % array.ndim else 1 for i in range(array.ndim)])
    return np.asarray(array == zero_point)


def _in_fours(node: onnx.NodeProto, path: list[onnx.NodeProto], zero: NDArray[np.bool_]) -> bool:
    """Whether of every four inputs of an output two are zero, as TensorRT's sparse kernels want it."""
    if node.op_type in (*_RECURRENT, "ConvTranspose") or _attribute(node, "group", 1) != 1:
        return False
    for step in reversed(path):
        if step.op_type == "Transpose":
            zero = zero.transpose(_permutation(step, zero.ndim))
    if node.op_type == "MatMul" or (node.op_type == "Gemm" and not _attribute(node, "transB", 0)):
        zero = zero.swapaxes(-1, -2)
    if zero.ndim > 2 and node.op_type == "MatMul":
        return False
    return is_two_of_four(torch.from_numpy(np.ascontiguousarray(~zero)))


def _permutation(node: onnx.NodeProto, ndim: int) -> list[int]:
    found = next((attribute for attribute in node.attribute if attribute.name == "perm"), None)
    return list(found.ints) if found is not None else list(range(ndim))[::-1]


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    found = next((attribute for attribute in node.attribute if attribute.name == name), None)
    return default if found is None else int(helper.get_attribute_value(found))
