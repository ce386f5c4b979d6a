"""Operators that a graph spells in several: a layer norm and a GELU become one node each. In place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgekit.nets.from_onnx.fold import Array

if TYPE_CHECKING:
    import onnx


@dataclass
class _Wires:
    """Who makes and who reads each tensor of a graph, and what the stored ones hold."""

    makers: dict[str, onnx.NodeProto] = field(default_factory=dict)
    readers: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)
    stored: dict[str, Array] = field(default_factory=dict)
    outputs: frozenset[str] = frozenset()

    def reader(self, node: onnx.NodeProto, kind: str) -> onnx.NodeProto | None:
        """The one node that reads what `node` makes, if it is of that kind."""
        name = node.output[0]
        found = self.readers.get(name, [])
        return found[0] if len(found) == 1 and found[0].op_type == kind and name not in self.outputs else None

    def maker(self, name: str, kinds: tuple[str, ...]) -> onnx.NodeProto | None:
        """The node that makes a tensor, if it is of one of these kinds."""
        node = self.makers.get(name)
        return node if node is not None and node.op_type in kinds else None

    def number(self, name: str) -> float | None:
        """A stored tensor of one number."""
        array = self.stored.get(name)
        return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None

    def beside(self, node: onnx.NodeProto, name: str) -> str:
        """The other input of a node of two."""
        return str(node.input[1] if node.input[0] == name else node.input[0])


def fuse(graph: onnx.GraphProto, constants: Mapping[str, Array]) -> int:
    """One LayerNormalization, or Gelu, for each group of nodes that is one. Returns how many."""
    wires = _Wires(stored=dict(constants), outputs=frozenset(value.name for value in graph.output))
    for node in graph.node:
        wires.makers.update(dict.fromkeys(node.output, node))
        for name in node.input:
            wires.readers.setdefault(name, []).append(node)
    done = 0
    for node in list(graph.node):
        made = _layer_norm(node, wires) if node.op_type == "Sqrt" else None
        made = _gelu(node, wires) if node.op_type == "Erf" else made
        if made is None:
            continue
        last, fused = made
        place = next(i for i, other in enumerate(graph.node) if other is last)
        graph.node[place].CopyFrom(fused)
        done += 1
    _drop_unread(graph)
    return done


def _drop_unread(graph: onnx.GraphProto) -> None:
    """What only the replaced nodes read is made for nobody."""
    read = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if read & set(node.output):
            kept.append(node)
            read |= set(node.input) | _read_below(node)
    kept.reverse()
    del graph.node[:]
    graph.node.extend(kept)


def _read_below(node: onnx.NodeProto) -> set[str]:
    """What the subgraphs of a node read."""
    found: set[str] = set()
    for attribute in node.attribute:
        for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
            found |= {value.name for value in inner.output}
            for below in inner.node:
                found |= set(below.input) | _read_below(below)
    return found


def _layer_norm(root: onnx.NodeProto, wires: _Wires) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    """(x - mean) / sqrt(var + eps) * gamma + beta, from its square root."""
    import onnx

    add = wires.maker(root.input[0], ("Add",))
    if add is None:
        return None
    variance, eps = next(
        ((name, number) for name in add.input if (number := wires.number(wires.beside(add, name))) is not None),
        ("", None),
    )
    squares = wires.maker(variance, ("ReduceMean",))
    square = wires.maker(squares.input[0], ("Pow", "Mul")) if squares is not None else None
    if eps is None or squares is None or square is None or not _over_last(squares, wires):
        return None
    centred = square.input[0]
    squared = wires.number(square.input[1]) == 2 if square.op_type == "Pow" else square.input[1] == centred
    sub = wires.maker(centred, ("Sub",))
    mean = wires.maker(sub.input[1], ("ReduceMean",)) if sub is not None else None
    if not squared or sub is None or mean is None or mean.input[0] != sub.input[0] or not _over_last(mean, wires):
        return None
    quotient = wires.reader(root, "Div")
    scaled = wires.reader(quotient, "Mul") if quotient is not None else None
    if quotient is None or quotient.input[0] != centred or scaled is None:
        return None
    gamma = wires.beside(scaled, quotient.output[0])
    shifted = wires.reader(scaled, "Add")
    beta = wires.beside(shifted, scaled.output[0]) if shifted is not None else ""
    if gamma not in wires.stored or wires.stored[gamma].ndim != 1 or wires.stored[gamma].size == 1:
        return None
    if beta not in wires.stored or wires.stored[beta].shape != wires.stored[gamma].shape:
        shifted, beta = None, ""
    last = scaled if shifted is None else shifted
    inputs = [sub.input[0], gamma, *([beta] if beta else [])]
    fused = onnx.helper.make_node("LayerNormalization", inputs, [last.output[0]], last.name, axis=-1, epsilon=eps)
    return last, fused


def _over_last(node: onnx.NodeProto, wires: _Wires) -> bool:
    """Whether a ReduceMean is over the last axis and keeps it."""
    values = {attribute.name: attribute for attribute in node.attribute}
    keeps = "keepdims" not in values or values["keepdims"].i == 1
    axes = wires.stored.get(node.input[1]) if len(node.input) > 1 else None
    listed = list(values["axes"].ints) if "axes" in values else [] if axes is None else np.asarray(axes).tolist()
    return keeps and listed == [-1]


def _gelu(erf: onnx.NodeProto, wires: _Wires) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    """x / 2 * (1 + erf(x / sqrt 2)), its factors in any order, from its error function."""
    import onnx

    inside = wires.maker(erf.input[0], ("Div", "Mul"))
    if inside is None or len(inside.input) != 2:
        return None
    number = wires.number(inside.input[1])
    wanted = math.sqrt(2) if inside.op_type == "Div" else 1 / math.sqrt(2)
    plus = wires.reader(erf, "Add")
    if number is None or not math.isclose(number, wanted, rel_tol=1e-3) or plus is None:
        return None
    if wires.number(wires.beside(plus, erf.output[0])) != 1:
        return None
    x = inside.input[0]
    first = wires.reader(plus, "Mul")
    if first is None:
        return None
    other = wires.beside(first, plus.output[0])
    last = _last_factor(first, other, x, wires)
    if last is None:
        return None
    return last, onnx.helper.make_node("Gelu", [x], [last.output[0]], last.name)


def _last_factor(first: onnx.NodeProto, other: str, x: str, wires: _Wires) -> onnx.NodeProto | None:
    """The product that completes it, where the sum's own product `first` is with `other`."""
    half = wires.maker(other, ("Mul",))
    if half is not None and x in half.input and wires.number(wires.beside(half, x)) == 0.5:
        return first
    second = wires.reader(first, "Mul")
    if second is None:
        return None
    rest = wires.beside(second, first.output[0])
    if other == x and wires.number(rest) == 0.5:
        return second
    return second if wires.number(other) == 0.5 and rest == x else None
