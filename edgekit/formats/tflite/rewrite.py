"""Rewrites of a converted TFLite graph: smaller and faster, without the exporter's traces.

Each rewrite keeps every integer the same; tests compare the outputs before and after.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema

from edgekit.errors import FormatError
from edgekit.formats.tflite.graph import CONVOLUTIONS, Graph, Op
from edgekit.formats.tflite.strip import drop_unused, share_empty_buffers, strip
from edgekit.numerics.rearrange import find_rearrangement

_NCHW_TO_NHWC, _NHWC_TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]


def cancel_layout_changes(graph: Graph) -> int:
    """[to NCHW] -> [to NHWC] is nothing: what reads the second reads what the first was made from. Returns how many."""
    done = 0
    for op in list(graph.sub.operators):
        before = graph.maker(op.inputs[0])
        if before is None or op.outputs[0] in graph.sub.outputs:
            continue
        if not (_is_layout_change(graph, before, _NHWC_TO_NCHW) and _is_layout_change(graph, op, _NCHW_TO_NHWC)):
            continue
        for reader in graph.readers(op.outputs[0]):
            reader.inputs = [before.inputs[0] if t == op.outputs[0] else t for t in reader.inputs]
        graph.sub.operators.remove(op)
        done += 1
    for op in list(graph.sub.operators):
        dead = not graph.readers(op.outputs[0]) and op.outputs[0] not in graph.sub.outputs
        if dead and _is_layout_change(graph, op, _NHWC_TO_NCHW):
            graph.sub.operators.remove(op)
    return done


def pads_in_channels_last(graph: Graph) -> int:
    """[to NCHW] -> PAD -> [to NHWC] becomes a PAD in NHWC. Returns how many."""
    done = 0
    for pad in list(graph.sub.operators):
        if graph.kind(pad) != Op.PAD:
            continue
        before, after = graph.maker(pad.inputs[0]), graph.only_reader(pad)
        if before is None or after is None or graph.only_reader(before) is not pad:
            continue
        if not (_is_layout_change(graph, before, _NHWC_TO_NCHW) and _is_layout_change(graph, after, _NCHW_TO_NHWC)):
            continue
        amounts = graph.data(pad.inputs[1], np.int32)
        if amounts is None:
            continue
        pad.inputs = [before.inputs[0], graph.add_tensor(pad.inputs[1], b"pads", amounts[_NCHW_TO_NHWC])]
        pad.outputs = list(after.outputs)
        graph.sub.operators.remove(before)
        graph.sub.operators.remove(after)
        done += 1
    return done


def merge_reshapes(graph: Graph) -> int:
    """A chain of TRANSPOSE and RESHAPE that leaves every element in its place becomes one RESHAPE.

    So it is where a map is read row by row in channels-last layout, as patches of a transformer are. Returns how many.
    """
    done = 0
    for end in list(graph.sub.operators):
        chain = _chain(graph, end)
        if len(chain) < 2 or any(user in chain for user in graph.readers(end.outputs[0])):
            continue
        source, made = chain[0].inputs[0], end.outputs[0]
        index = torch.arange(math.prod(graph.shape(source))).reshape(graph.shape(source))
        for op in chain:
            if graph.kind(op) == Op.TRANSPOSE:
                order = graph.data(op.inputs[1], np.int32)
                assert order is not None
                index = index.permute(order.tolist())
            index = index.reshape(graph.shape(op.outputs[0]))
        found = find_rearrangement(index)
        if found is None or not found.is_reshape:
            continue
        for op in chain[:-1]:
            graph.sub.operators.remove(op)
        shape = np.array(graph.shape(made), np.int32)
        numbers = next((op.inputs[1] for op in chain if len(op.inputs) > 1), None)
        assert numbers is not None
        end.inputs = [source, graph.add_tensor(numbers, b"shape", shape)]
        end.opcodeIndex = graph.opcode(Op.RESHAPE, 1)
        end.builtinOptions, end.builtinOptionsType = schema.ReshapeOptionsT(), schema.BuiltinOptions.ReshapeOptions
        end.builtinOptions.newShape = shape
        done += 1
    return done


def _chain(graph: Graph, end: Any) -> list[Any]:
    """TRANSPOSE and RESHAPE operators that end in `end`, of which each is all that reads the one before."""
    chain: list[Any] = []
    op = end
    while op is not None and graph.kind(op) in (Op.TRANSPOSE, Op.RESHAPE) and len(op.inputs) > 1:
        if chain and graph.only_reader(op) is not chain[0]:
            break
        chain.insert(0, op)
        op = graph.maker(op.inputs[0])
    return chain


def _is_layout_change(graph: Graph, op: Any, order: list[int]) -> bool:
    if graph.kind(op) not in (Op.TRANSPOSE, Op.RESHAPE):
        return False
    source, result = graph.shape(op.inputs[0]), graph.shape(op.outputs[0])
    if len(source) != 4 or len(result) != 4 or [source[axis] for axis in order] != result:
        return False
    if graph.kind(op) == Op.TRANSPOSE:
        permutation = graph.data(op.inputs[1], np.int32)
        return permutation is not None and permutation.tolist() == order
    channels = source[3] if order == _NHWC_TO_NCHW else source[1]
    return graph.kind(op) == Op.RESHAPE and channels == 1  # with one channel both layouts are the same bytes


def single_channel_convolutions(graph: Graph) -> int:
    """A depthwise convolution of one channel is a plain convolution, which runtimes have a faster kernel for."""
    done = 0
    for op in graph.sub.operators:
        if graph.kind(op) != Op.DEPTHWISE_CONV_2D or graph.shape(op.inputs[0])[3] != 1:
            continue
        weight = op.inputs[1]
        dtype = np.int8 if graph.sub.tensors[weight].type == schema.TensorType.INT8 else np.float32
        values = graph.data(weight, dtype)  # (1, h, w, out)
        if values is None or len(graph.readers(weight)) != 1:
            continue
        graph.set_data(weight, values.transpose(3, 1, 2, 0))
        if graph.sub.tensors[weight].quantization is not None:
            graph.sub.tensors[weight].quantization.quantizedDimension = 0
        old, new = op.builtinOptions, schema.Conv2DOptionsT()
        for field in (
            "padding",
            "strideW",
            "strideH",
            "fusedActivationFunction",
            "dilationWFactor",
            "dilationHFactor",
        ):
            setattr(new, field, getattr(old, field))
        op.builtinOptions, op.builtinOptionsType = new, schema.BuiltinOptions.Conv2DOptions
        version = graph.model.operatorCodes[op.opcodeIndex].version
        op.opcodeIndex = graph.opcode(Op.CONV_2D, version)
        done += 1
    return done


def same_padding(graph: Graph) -> int:
    """PAD -> convolution without padding becomes one with SAME padding, where that means the same. Returns how many."""
    done = 0
    for pad in list(graph.sub.operators):
        conv = graph.only_reader(pad) if graph.kind(pad) == Op.PAD else None
        if conv is None or graph.kind(conv) not in CONVOLUTIONS or conv.inputs[0] != pad.outputs[0]:
            continue
        options = conv.builtinOptions
        amounts = graph.data(pad.inputs[1], np.int32)
        if amounts is None or options.padding != schema.Padding.VALID:
            continue
        size, kernel = graph.shape(pad.inputs[0]), graph.shape(conv.inputs[1])
        wanted = [[0, 0]]
        for axis, stride, dilation in (
            (1, options.strideH, options.dilationHFactor),
            (2, options.strideW, options.dilationWFactor),
        ):
            reach = dilation * (kernel[axis] - 1) + 1
            total = max((-(-size[axis] // stride) - 1) * stride + reach - size[axis], 0)
            wanted.append([total // 2, total - total // 2])
        if amounts.tolist() != [*wanted, [0, 0]]:
            continue
        options.padding = schema.Padding.SAME
        conv.inputs = [pad.inputs[0], *conv.inputs[1:]]
        graph.sub.operators.remove(pad)
        done += 1
    return done


def wide_biases(graph: Graph) -> int:
    """Biases of layers with 16-bit inputs are 64-bit integers, as their kernels read them. Returns how many."""
    done = 0
    for op in graph.sub.operators:
        if graph.kind(op) not in (*CONVOLUTIONS, Op.FULLY_CONNECTED) or len(op.inputs) < 3 or op.inputs[2] < 0:
            continue
        source, bias = graph.sub.tensors[op.inputs[0]], graph.sub.tensors[op.inputs[2]]
        if source.type != schema.TensorType.INT16 or bias.type != schema.TensorType.INT32:
            continue
        values = graph.data(op.inputs[2], np.int32)
        assert values is not None
        graph.set_data(op.inputs[2], values.astype(np.int64))
        bias.type = schema.TensorType.INT64
        done += 1
    return done


def drop_marks(graph: Graph) -> int:
    """Take out the marks of `float_layers.py`: FLOOR behind DEQUANTIZE, or behind an output. Returns how many."""
    done = 0
    for op in list(graph.sub.operators):
        if graph.kind(op) != Op.FLOOR or op.outputs[0] in graph.sub.outputs:
            continue
        before = graph.maker(op.inputs[0])
        behind_codes = before is not None and graph.kind(before) == Op.DEQUANTIZE
        if not behind_codes and op.inputs[0] not in graph.sub.outputs:
            continue
        for reader in graph.readers(op.outputs[0]):
            reader.inputs = [op.inputs[0] if tensor == op.outputs[0] else tensor for tensor in reader.inputs]
        graph.sub.operators.remove(op)
        done += 1
    return done


def rewrite(content: bytes, inputs: list[str], outputs: list[str], marks: int = 0) -> bytes:
    """All rewrites, and the model packed again.

    Args:
        marks: how many operators were marked to stay in float.

    Raises:
        FormatError: the marks did not come through the converter, or one tensor is two inputs or outputs.
    """
    import flatbuffers

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    graph = Graph(model)
    if marks and (found := drop_marks(graph)) != marks:
        raise FormatError(
            f"{marks} operators are kept in float, and the converted graph shows {found} of them",
            "format tflite",
            "drop tflite from export.formats, or let those operators be quantised; and report this",
        )
    cancel_layout_changes(graph)
    pads_in_channels_last(graph)
    single_channel_convolutions(graph)
    same_padding(graph)
    merge_reshapes(graph)
    wide_biases(graph)
    strip(model, inputs, outputs)
    share_empty_buffers(model)
    drop_unused(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
