"""Rewrites of a converted TFLite graph, on the schema's own objects: smaller, faster, without the exporter's traces.

Each rewrite keeps every integer the same; tests compare the outputs before and after.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.errors import FormatError

Op = schema.BuiltinOperator
_OP_NAMES = {value: name for name, value in vars(Op).items() if isinstance(value, int)}
_CONVOLUTIONS = (Op.CONV_2D, Op.DEPTHWISE_CONV_2D)
_NCHW_TO_NHWC, _NHWC_TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]


class Graph:
    """One subgraph with the look-ups that rewrites need."""

    def __init__(self, model: Any) -> None:
        self.model, self.sub = model, model.subgraphs[0]

    def kind(self, op: Any) -> int:
        """Builtin code of an operator."""
        return int(self.model.operatorCodes[op.opcodeIndex].builtinCode)

    def maker(self, tensor: int) -> Any:
        """The operator that writes a tensor; None for inputs and constants."""
        return next((op for op in self.sub.operators if tensor in op.outputs), None)

    def readers(self, tensor: int) -> list[Any]:
        """The operators that read a tensor."""
        return [op for op in self.sub.operators if tensor in op.inputs]

    def only_reader(self, op: Any) -> Any:
        """The one operator that reads the output of `op`, if that is its only use; else None."""
        readers = self.readers(op.outputs[0])
        return readers[0] if len(readers) == 1 and op.outputs[0] not in self.sub.outputs else None

    def shape(self, tensor: int) -> list[int]:
        """Static shape of a tensor."""
        return [int(size) for size in self.sub.tensors[tensor].shape]

    def data(self, tensor: int, dtype: type[np.generic]) -> Any | None:
        """Constant content of a tensor, or None."""
        content = self.model.buffers[self.sub.tensors[tensor].buffer].data
        if content is None or len(content) == 0:
            return None
        return np.frombuffer(bytes(content), dtype).reshape(self.shape(tensor))

    def set_data(self, tensor: int, array: Any) -> None:
        """Give a tensor constant content of its own."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self.sub.tensors[tensor].buffer = len(self.model.buffers) - 1
        self.sub.tensors[tensor].shape = np.array(array.shape, np.int32)

    def add_tensor(self, like: int, name: bytes, array: Any | None = None, shape: list[int] | None = None) -> int:
        """A new tensor of the type and quantisation of another."""
        source = self.sub.tensors[like]
        tensor = schema.TensorT()
        tensor.type, tensor.quantization, tensor.name = source.type, source.quantization, name
        tensor.buffer = 0
        tensor.hasRank = source.hasRank
        self.sub.tensors.append(tensor)
        index = len(self.sub.tensors) - 1
        if array is not None:
            self.set_data(index, array)
        else:
            tensor.shape = np.array(shape, np.int32)
        return index

    def opcode(self, kind: int, version: int) -> int:
        """Index of an operator code, added if absent."""
        for index, code in enumerate(self.model.operatorCodes):
            if code.builtinCode == kind:
                code.version = max(code.version, version)
                return index
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = kind, min(kind, 127), version
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1


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
        if conv is None or graph.kind(conv) not in _CONVOLUTIONS or conv.inputs[0] != pad.outputs[0]:
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


def strip(model: Any, inputs: list[str], outputs: list[str]) -> None:
    """Remove the exporter's names and notes; name inputs and outputs as the network does, the rest by operator."""
    graph = Graph(model)
    model.description = b""
    model.metadata = [item for item in model.metadata or [] if item.name == b"min_runtime_version"]
    graph.sub.name = b"main"
    seen: dict[str, int] = {}
    ends = [*map(int, graph.sub.inputs), *map(int, graph.sub.outputs)]
    if len(set(ends)) != len(ends):
        raise FormatError(
            "one tensor is two inputs or outputs of the network, and TFLite knows a tensor by one name",
            f"inputs {', '.join(inputs)}; outputs {', '.join(outputs)}",
            "return each tensor once and no input as it came, or drop tflite from export.formats",
        )
    named = dict(zip(ends, [*inputs, *outputs], strict=True))
    for op in graph.sub.operators:
        kind = _OP_NAMES[graph.kind(op)].lower()
        seen[kind] = seen.get(kind, 0) + 1
        for position, tensor in enumerate(op.inputs):
            if tensor >= 0 and tensor not in named and graph.maker(tensor) is None:
                role = ("input", "weight", "bias")[min(position, 2)] if graph.kind(op) in _WEIGHTED else "constant"
                named[tensor] = f"{kind}_{seen[kind]}.{role}"
        for tensor in op.outputs:
            named.setdefault(tensor, f"{kind}_{seen[kind]}")
    for index, tensor in enumerate(graph.sub.tensors):
        tensor.name = named.get(index, "").encode()
    for part in model.subgraphs[1:]:  # what a composite operator is made of, for runtimes that do not know it
        part.name = b""
        for tensor in part.tensors:
            tensor.name = b""
    for signature in model.signatureDefs or []:
        for item in [*signature.inputs, *signature.outputs]:
            item.name = named[item.tensorIndex].encode()


_WEIGHTED = (*_CONVOLUTIONS, Op.FULLY_CONNECTED)


def share_empty_buffers(model: Any) -> None:
    """Tensors without content, all activations, refer to buffer 0, which the schema keeps empty for them."""
    for part in model.subgraphs:
        for tensor in part.tensors:
            buffer = model.buffers[tensor.buffer]
            if (buffer.data is None or len(buffer.data) == 0) and not buffer.offset:
                tensor.buffer = 0


def drop_unused(model: Any) -> None:
    """Remove tensors of the main graph, and buffers and operator codes, that nothing refers to; renumber the rest."""
    sub = model.subgraphs[0]
    used = {int(t) for op in sub.operators for t in (*op.inputs, *op.outputs) if t >= 0}
    used |= {int(t) for t in (*sub.inputs, *sub.outputs)}
    order = sorted(used)
    place = {-1: -1, **{old: new for new, old in enumerate(order)}}
    for op in sub.operators:
        op.inputs = [place[int(t)] for t in op.inputs]
        op.outputs = [place[int(t)] for t in op.outputs]
    sub.inputs, sub.outputs = [place[int(t)] for t in sub.inputs], [place[int(t)] for t in sub.outputs]
    sub.tensors = [sub.tensors[t] for t in order]
    for signature in model.signatureDefs or []:
        for item in [*signature.inputs, *signature.outputs]:
            item.tensorIndex = place[item.tensorIndex]
    operators = [op for part in model.subgraphs for op in part.operators]
    codes = sorted({op.opcodeIndex for op in operators})
    for op in operators:
        op.opcodeIndex = codes.index(op.opcodeIndex)
    model.operatorCodes = [model.operatorCodes[c] for c in codes]
    holders = [*(t for part in model.subgraphs for t in part.tensors), *(model.metadata or [])]
    buffers = sorted({0, *(holder.buffer for holder in holders)})
    for holder in holders:
        holder.buffer = buffers.index(holder.buffer)
    model.buffers = [model.buffers[b] for b in buffers]


def rewrite(content: bytes, inputs: list[str], outputs: list[str]) -> bytes:
    """All rewrites, and the model packed again."""
    import flatbuffers

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    graph = Graph(model)
    cancel_layout_changes(graph)
    pads_in_channels_last(graph)
    single_channel_convolutions(graph)
    same_padding(graph)
    strip(model, inputs, outputs)
    share_empty_buffers(model)
    drop_unused(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
