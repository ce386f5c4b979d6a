"""Weights of a converted TFLite graph as codes: for hybrid kernels, which round their inputs themselves, or unfolded.

A hybrid kernel is a float operator with an integer weight: LiteRT rounds each row or image that comes in to 8 bits. A
DEQUANTIZE in front of the operator makes the weight float32 once instead, and the kernel computes in float.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgekit.formats.tflite.graph import CONVOLUTIONS, OP_NAMES, Graph, Op
from edgekit.nets.quantisation import WeightCodes
from edgekit.schema.manifest import InFloat

SMALLEST_BLOCK = 32  # XNNPACK's kernel for blocks of 4-bit weights
_WEIGHTED = (*CONVOLUTIONS, Op.FULLY_CONNECTED)
# first versions of DEQUANTIZE for each type, as LiteRT's op_version.cc has them
_DEQUANTIZE_VERSIONS = {schema.TensorType.FLOAT16: 3, schema.TensorType.INT8: 5, schema.TensorType.INT4: 6}


@dataclass(frozen=True)
class Laid:
    """Codes of a weight in the order in which TFLite stores them.

    Attributes:
        flat: its numbers, one after the other.
    """

    name: str
    weight: WeightCodes
    flat: NDArray[Any]


def in_blocks(weight: WeightCodes) -> bool:
    """Whether LiteRT has a kernel for these groups: 4-bit linear layers whose inputs fill every block."""
    group, shape = weight.group, weight.codes.shape
    return (
        group is not None and weight.bits == 4 and len(shape) == 2 and group >= SMALLEST_BLOCK and not shape[1] % group
    )


def layouts(name: str, weight: WeightCodes) -> dict[bytes, Laid]:
    """A weight in every order that the converter may store it in, by the bytes of its float32 values."""
    codes, values = weight.codes.numpy(), weight.values().numpy()
    orders: dict[int, tuple[tuple[int, ...], ...]] = {
        2: ((0, 1),),
        3: ((0, 2, 1),),
        4: ((0, 2, 3, 1), (1, 2, 3, 0)),  # a convolution's, and a depthwise one's
    }
    return {
        np.ascontiguousarray(values.transpose(order)).tobytes(): Laid(name, weight, codes.transpose(order).reshape(-1))
        for order in orders[codes.ndim]
    }


def put_codes(model: Any, known: Mapping[bytes, Laid], *, hybrid: bool) -> tuple[set[str], tuple[InFloat, ...]]:
    """Replace every weight in `known` by its codes.

    Args:
        hybrid: kernels read the codes; else a DEQUANTIZE makes them float32.

    Returns:
        Names of the weights that were found, and what computes with float32 weights.
    """
    graph = Graph(model)
    met: set[str] = set()
    in_float: dict[str, InFloat] = {}
    done: dict[int, int] = {}
    for op in list(graph.sub.operators):
        if graph.kind(op) not in _WEIGHTED:
            continue
        index = int(op.inputs[1])
        content = model.buffers[graph.sub.tensors[index].buffer].data
        found = None if content is None else known.get(bytes(content))
        if found is None and index not in done:
            continue
        if found is not None:
            met.add(found.name)
            reason = _reason(found.weight, hybrid=hybrid)
            if reason:
                in_float[found.name] = InFloat(node=found.name, op=OP_NAMES[graph.kind(op)], reason=reason)
            if found.weight.group is not None and not in_blocks(found.weight):
                continue  # it stays as it is
            depthwise = graph.kind(op) == Op.DEPTHWISE_CONV_2D
            done[index] = index if hybrid else _dequantised(graph, index)
            # LiteRT has no 4-bit depthwise kernel: the same codes take a byte each
            _store(graph, index, found, axis=3 if depthwise else 0, pack=not depthwise)
            if hybrid and graph.kind(op) == Op.FULLY_CONNECTED:
                op.builtinOptions.asymmetricQuantizeInputs = True  # as XNNPACK does; LiteRT's own kernel asks
        op.inputs = [op.inputs[0], done[index], *op.inputs[2:]]
    if not hybrid:
        _unfold(graph, done)
    _drop_unused_buffers(model)
    return met, tuple(in_float.values())


def _reason(weight: WeightCodes, *, hybrid: bool) -> str:
    if weight.group is not None and not in_blocks(weight):
        return f"LiteRT has no kernel for {weight.number} weights in groups of {weight.group} here: stored as float32"
    return "" if hybrid else f"its {weight.number} weights are turned into float32 before the first run"


def _store(graph: Graph, index: int, found: Laid, *, axis: int, pack: bool) -> None:
    """Give a tensor the codes of its weight, and their scales."""
    tensor, weight = graph.sub.tensors[index], found.weight
    codes = found.flat.reshape(graph.shape(index))
    if weight.number == "fp16":
        graph.set_data(index, codes)
        tensor.type = schema.TensorType.FLOAT16
        return
    packed = pack and weight.bits == 4
    if packed:
        shape = tensor.shape
        nibbles = np.append(found.flat, np.zeros(found.flat.size % 2, np.int8)).astype(np.uint8) & 15
        graph.set_data(index, nibbles[0::2] | (nibbles[1::2] << 4))
        tensor.shape = shape
    else:
        graph.set_data(index, codes)
    tensor.type = schema.TensorType.INT4 if packed else schema.TensorType.INT8
    tensor.quantization = schema.QuantizationParametersT()
    if weight.group is None:
        tensor.quantization.scale = weight.scale.numpy()
        tensor.quantization.zeroPoint = np.zeros(len(weight.scale), np.int64)
        tensor.quantization.quantizedDimension = axis
        return
    scales = graph.add_tensor(index, tensor.name + b".scales", weight.scale.numpy().astype(np.float16))
    graph.sub.tensors[scales].type, graph.sub.tensors[scales].quantization = schema.TensorType.FLOAT16, None
    details = schema.BlockwiseQuantizationT()
    details.scales, details.zeroPoints, details.blockSize = scales, -1, weight.group
    tensor.quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
    tensor.quantization.details = details


def _dequantised(graph: Graph, index: int) -> int:
    """A new float32 tensor of the shape of a weight."""
    made = graph.add_tensor(index, graph.sub.tensors[index].name + b".float", shape=graph.shape(index))
    graph.sub.tensors[made].type, graph.sub.tensors[made].quantization = schema.TensorType.FLOAT32, None
    return made


def _unfold(graph: Graph, made: Mapping[int, int]) -> None:
    """DEQUANTIZE operators before everything else: index of codes -> index of the float32 tensor."""
    for source, result in made.items():
        op = schema.OperatorT()
        op.opcodeIndex = graph.opcode(Op.DEQUANTIZE, _DEQUANTIZE_VERSIONS[graph.sub.tensors[source].type])
        op.inputs, op.outputs = [source], [result]
        op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.DequantizeOptions, schema.DequantizeOptionsT()
        graph.sub.operators.insert(0, op)


def _drop_unused_buffers(model: Any) -> None:
    holders = [*(tensor for part in model.subgraphs for tensor in part.tensors), *(model.metadata or [])]
    kept = sorted({0, *(holder.buffer for holder in holders)})
    for holder in holders:
        holder.buffer = kept.index(holder.buffer)
    model.buffers = [model.buffers[index] for index in kept]


def allow_half_precision(model: Any) -> None:
    """Say in the metadata that float16 arithmetic is accurate enough.

    XNNPACK computes in float16 then, on processors that have it (Armv8.2 with FP16), and in float32 elsewhere.
    """
    content = schema.BufferT()
    content.data = np.frombuffer(b"fp16accfp16", np.uint8)
    model.buffers.append(content)
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"reduced_precision_support", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
