"""ONNX nodes and initialisers for weights that are stored as codes: kernels that read codes, and decoding to float32.

Decoding is made of operators that ONNX Runtime folds when it loads the file: Cast, Gather, Mul, Reshape. It does not
fold DequantizeLinear, which would be computed again in every run: a convolution took 0.87 ms so, 0.68 ms with a Cast.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekit.nets.quantisation import WeightCodes
from edgekit.numerics.minifloat import value_table
from edgekit.numerics.number import Half, Integer, Minifloat, find_number

MICROSOFT = "com.microsoft"  # domain of ONNX Runtime's own operators
_HALVES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
_OCP = {"fp8_e4m3fn": TensorProto.FLOAT8E4M3FN, "fp8_e5m2": TensorProto.FLOAT8E5M2}


@dataclass
class Parts:
    """New nodes, in the order in which they run, and the initialisers that they read."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, op: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        """A node with one output, whose name it returns."""
        self.nodes.append(helper.make_node(op, inputs, [output], output, domain=domain, **attributes))
        return output

    def store(self, name: str, values: NDArray[np.generic]) -> str:
        """An initialiser, whose name it returns."""
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def pack(self, name: str, kind: int, values: NDArray[Any]) -> str:
        """An initialiser of 4-bit integers, two in a byte, whose name it returns."""
        self.initializers.append(helper.make_tensor(name, kind, values.shape, values.flatten().tolist()))
        return name


def needed_opset(number: str) -> int:
    """First ONNX opset with a type for these codes: 4-bit integers came with 21, 8-bit floats with 19."""
    found = find_number(number)
    if number in _OCP:
        return 19
    return 21 if found.bits <= 4 else 13


def decode(parts: Parts, name: str, weight: WeightCodes, output: str, transposed: bool) -> None:
    """Nodes that make `output`, float32, from the codes of `weight`.

    Args:
        name: stem of the new names.
        transposed: `output` is (inputs, outputs) of a linear layer, not (outputs, inputs).
    """
    number = find_number(weight.number)
    if weight.group is not None:
        _decode_groups(parts, name, weight, output, transposed)
        return
    codes = _numpy(weight.codes, transposed)
    if isinstance(number, Half):
        parts.initializers.append(_raw(f"{name}_codes", _HALVES[number.name], codes))
        parts.add("Cast", [f"{name}_codes"], output, to=TensorProto.FLOAT)
        return
    if isinstance(number, Integer):
        stored = _store_integers(parts, f"{name}_codes", codes, number)
        real = parts.add("Cast", [stored], f"{name}_real", to=TensorProto.FLOAT)
    elif weight.number in _OCP:
        parts.initializers.append(_raw(f"{name}_codes", _OCP[weight.number], codes))
        real = parts.add("Cast", [f"{name}_codes"], f"{name}_real", to=TensorProto.FLOAT)
    else:
        assert isinstance(number, Minifloat)
        stored = _store_words(parts, f"{name}_codes", codes.view(np.uint8), number)
        words = parts.add("Cast", [stored], f"{name}_words", to=TensorProto.INT32)
        table = parts.store(f"{name}_values", value_table(number).numpy())
        real = parts.add("Gather", [table, words], f"{name}_real")
    shape = [1] * weight.codes.dim()
    shape[1 if transposed else weight.axis] = -1
    scale = parts.store(f"{name}_scale", weight.scale.numpy().reshape(shape))
    parts.add("Mul", [real, scale], output)


def _decode_groups(parts: Parts, name: str, weight: WeightCodes, output: str, transposed: bool) -> None:
    number = find_number(weight.number)
    assert isinstance(number, Integer)
    blocks = in_blocks(weight)  # (C, G, group)
    channels, groups, group = blocks.shape
    inputs = weight.codes[0].numel()
    stored = _store_integers(parts, f"{name}_codes", blocks, number)
    real = parts.add("Cast", [stored], f"{name}_real", to=TensorProto.FLOAT)
    scale = parts.store(f"{name}_scale", weight.scale.numpy()[:, :, None])
    flat = parts.add("Mul", [real, scale], f"{name}_blocks")
    if groups * group != inputs:
        rows = parts.store(f"{name}_rows", np.array([channels, groups * group], np.int64))
        flat = parts.add("Reshape", [flat, rows], f"{name}_padded")
        ends = [parts.store(f"{name}_{end}", np.array([at], np.int64)) for end, at in (("start", 0), ("stop", inputs))]
        axis = parts.store(f"{name}_axis", np.array([1], np.int64))
        flat = parts.add("Slice", [flat, *ends, axis], f"{name}_flat")
    shape = parts.store(f"{name}_shape", np.array(weight.codes.shape, np.int64))
    whole = parts.add("Reshape", [flat, shape], f"{name}_whole" if transposed else output)
    if transposed:
        parts.add("Transpose", [whole], output, perm=[1, 0])


def matmul_nbits(
    parts: Parts, name: str, weight: WeightCodes, source: str, bias: str, output: str, *, integer: bool
) -> None:
    """`output` = source @ weight^T + bias by ONNX Runtime's MatMulNBits, which keeps the codes packed in memory.

    Codes are stored unsigned, 2^(bits - 1) above the signed ones, which is the operator's default zero point.

    Args:
        bias: name of it, or empty.
        integer: the kernel rounds its input to 8 bits, group by group, and multiplies integers; else it multiplies
            floats.
    """
    unsigned = (in_blocks(weight).astype(np.int16) + (1 << (weight.bits - 1))).astype(np.uint8)
    packed = unsigned if weight.bits == 8 else unsigned[..., 0::2] | (unsigned[..., 1::2] * np.uint8(16))
    codes = parts.store(f"{name}_codes", packed)
    scale = parts.store(f"{name}_scale", weight.scale.numpy())
    parts.add(
        "MatMulNBits",
        [source, codes, scale, *(["", "", bias] if bias else [])],
        output,
        MICROSOFT,
        K=weight.codes.shape[1],
        N=weight.codes.shape[0],
        bits=weight.bits,
        block_size=weight.group,
        **({"accuracy_level": 4} if integer else {}),
    )


def matmul_integer(parts: Parts, name: str, weight: WeightCodes, source: str, bias: str, output: str) -> None:
    """`output` = source @ weight^T + bias in integers, on the grid that `quantise_dynamically` makes of `source`.

    Args:
        bias: name of it, or empty.
    """
    number = find_number(weight.number)
    assert isinstance(number, Integer)
    codes = _store_integers(parts, f"{name}_codes", _numpy(weight.codes, transposed=True), number)
    if number.bits == 4:
        codes = parts.add("Cast", [codes], f"{name}_bytes", to=TensorProto.INT8)
    scale = parts.store(f"{name}_scale", weight.scale.numpy())
    sums = parts.add("MatMulInteger", [f"{source}_codes", codes, f"{source}_zero_point"], f"{name}_sums")
    real = parts.add("Cast", [sums], f"{name}_real", to=TensorProto.FLOAT)
    both = parts.add("Mul", [f"{source}_scale", scale], f"{name}_scales")
    product = parts.add("Mul", [real, both], f"{name}_product" if bias else output)
    if bias:
        parts.add("Add", [product, bias], output)


def quantise_dynamically(parts: Parts, source: str) -> None:
    """Codes, scale and zero point of an activation as it comes, once for all layers that read it."""
    outputs = [f"{source}_{part}" for part in ("codes", "scale", "zero_point")]
    parts.nodes.append(helper.make_node("DynamicQuantizeLinear", [source], outputs, name=f"{source}_quantised"))


def in_blocks(weight: WeightCodes) -> NDArray[np.int8]:
    """(C, G, group) codes of a grouped weight; zeros fill the last group."""
    assert weight.group is not None
    flat = weight.codes.flatten(1)
    filled = torch.nn.functional.pad(flat, (0, -flat.shape[1] % weight.group))
    return np.asarray(filled.reshape(len(flat), -1, weight.group).numpy())


def _numpy(codes: torch.Tensor, transposed: bool) -> NDArray[np.generic]:
    return np.ascontiguousarray((codes.t() if transposed else codes).numpy())


def _store_integers(parts: Parts, name: str, codes: NDArray[np.generic], number: Integer) -> str:
    if number.bits == 4:
        return parts.pack(name, TensorProto.INT4, codes)
    return parts.store(name, codes)


def _store_words(parts: Parts, name: str, words: NDArray[np.uint8], number: Minifloat) -> str:
    if number.bits <= 4:
        return parts.pack(name, TensorProto.UINT4, words)
    return parts.store(name, words)


def _raw(name: str, kind: int, codes: NDArray[np.generic]) -> onnx.TensorProto:
    """An initialiser from the bits of its numbers."""
    return helper.make_tensor(name, kind, codes.shape, np.ascontiguousarray(codes).tobytes(), raw=True)
