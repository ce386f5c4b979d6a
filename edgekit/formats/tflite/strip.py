"""What a TFLite file does not need: the exporter's names and notes, tensors and buffers that nothing refers to."""

from __future__ import annotations

from typing import Any

from edgekit.errors import FormatError
from edgekit.formats.tflite.graph import CONVOLUTIONS, OP_NAMES, Graph, Op

_WEIGHTED = (*CONVOLUTIONS, Op.FULLY_CONNECTED)


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
        kind = OP_NAMES[graph.kind(op)].lower()
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
