"""Rewrites of an exported ONNX graph: what the exporter says in several operators is said in the one runtimes fuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

# from the factor of x upwards, as the exporter spells it
_GELU = (("Mul", 1), ("Add", 0), ("Erf", 0), ("Div", 0))


def clean(model: onnx.ModelProto) -> None:
    """Remove everything that is not the network: metadata, stack traces, paths, names of the exporter.

    The exporter writes the Python stack into every node; it nearly doubles the file and tells who built it where.
    """
    model.producer_name = model.producer_version = model.domain = model.doc_string = ""
    model.model_version = 0
    for holder in _all(model):
        holder.ClearField("doc_string")
        if "metadata_props" in holder.DESCRIPTOR.fields_by_name:
            holder.ClearField("metadata_props")
    del model.graph.value_info[:]


def _all(model: onnx.ModelProto) -> Iterator[onnx.ModelProto | onnx.NodeProto | onnx.GraphProto | onnx.TensorProto]:
    yield model
    yield model.graph
    yield from model.graph.node
    yield from model.graph.initializer
    yield from model.graph.input
    yield from model.graph.output


def declare_wide_codes(model: onnx.ModelProto) -> None:
    """16-bit codes need operator set 21, which leaves the meaning of every older operator as it was."""
    wide = (onnx.TensorProto.INT16, onnx.TensorProto.UINT16)
    if any(tensor.data_type in wide for tensor in model.graph.initializer):
        for opset in model.opset_import:
            if opset.domain == "":
                opset.version = max(opset.version, 21)
        model.ir_version = max(model.ir_version, 10)


def use_global_pools(graph: onnx.GraphProto) -> int:
    """ReduceMean over height and width becomes GlobalAveragePool, which has an integer kernel. Returns how many."""
    constants = _constants(graph)
    done = 0
    for node in graph.node:
        if node.op_type != "ReduceMean" or len(node.input) != 2 or _attribute(node, "keepdims", 1) != 1:
            continue
        axes = constants.get(node.input[1])
        if axes is None or sorted(int(axis) % 4 for axis in axes.reshape(-1)) != [2, 3]:
            continue
        node.op_type = "GlobalAveragePool"
        del node.input[1:]
        del node.attribute[:]
        done += 1
    _drop_unused(graph)
    return done


def order_gelus(graph: onnx.GraphProto) -> int:
    """x * (0.5 * (erf(x / r) + 1)) becomes (x * (erf(x / r) + 1)) * 0.5, of which ONNX Runtime makes one Gelu.

    Returns how many. It is the same product whatever the constants are.
    """
    constants = _constants(graph)
    makers = {name: node for node in graph.node for name in node.output}
    readers = Counter([*(name for node in graph.node for name in node.input), *(out.name for out in graph.output)])
    done = 0
    for last in [node for node in graph.node if node.op_type == "Mul"]:
        chain = _follow(last.input[1], makers, _GELU)
        if chain is None:
            continue
        half, inverse = chain[0], chain[-1]
        source, (number, rest) = last.input[0], tuple(half.input)
        if number not in constants or inverse.input[0] != source or readers[half.output[0]] > 1:
            continue
        half.input[:], last.input[:] = [rest, source], [half.output[0], number]
        done += 1
    return done


def _follow(
    name: str, makers: Mapping[str, onnx.NodeProto], path: Sequence[tuple[str, int]]
) -> list[onnx.NodeProto] | None:
    """The nodes upwards from a tensor, if they are the operators of `path`, each entered by the input it names."""
    found = []
    for operator, position in path:
        node = makers.get(name)
        if node is None or node.op_type != operator:
            return None
        found.append(node)
        name = node.input[position]
    return found


def fuse_pads(graph: onnx.GraphProto) -> int:
    """A zero Pad that only a Conv reads becomes that Conv's own padding, which may differ by side. Returns how many."""
    constants = _constants(graph)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    done = 0
    for pad in list(graph.node):
        if pad.op_type != "Pad" or [r.op_type for r in readers.get(pad.output[0], [])] != ["Conv"]:
            continue
        amounts = constants.get(pad.input[1])
        value = constants.get(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else np.zeros(1)
        mode = _attribute(pad, "mode", b"constant")
        if amounts is None or value is None or mode != b"constant" or value.any():
            continue
        rank = len(amounts) // 2
        if len(pad.input) > 3 and pad.input[3]:
            continue
        before, after = amounts[:rank], amounts[rank:]
        (conv,) = readers[pad.output[0]]
        if before[:2].any() or after[:2].any() or _attribute(conv, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            continue
        own = _attribute(conv, "pads", [0] * (2 * (rank - 2)))
        total = [int(a) + int(b) for a, b in zip([*before[2:], *after[2:]], own, strict=True)]
        for attribute in [a for a in conv.attribute if a.name in ("pads", "auto_pad")]:
            conv.attribute.remove(attribute)
        conv.attribute.append(onnx.helper.make_attribute("pads", total))
        conv.input[0] = pad.input[0]
        graph.node.remove(pad)
        done += 1
    _drop_unused(graph)
    return done


def _constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for node in [n for n in graph.node if n.op_type == "Constant" and n.output[0] not in used]:
        graph.node.remove(node)
    for tensor in [t for t in graph.initializer if t.name not in used]:
        graph.initializer.remove(tensor)
