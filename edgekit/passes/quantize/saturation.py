"""Ranges in front of sigmoid and tanh: what their outputs cannot tell apart needs no codes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from torch import fx

from edgekit.data.observers import Histogram
from edgekit.nets.operators import kind_of
from edgekit.nets.program import Program
from edgekit.nets.quantisation import EdgeRange
from edgekit.numerics.gated import GATES, Spread, gated_range, spread
from edgekit.numerics.number import parse_number
from edgekit.numerics.quantise import affine_grid

_EVERYTHING = (-math.inf, math.inf)


def saturate(program: Program, edges: dict[str, EdgeRange]) -> dict[str, EdgeRange]:
    """All edges, with those that only sigmoids and tanhs read cut to where these still change.

    sigmoid(x) is within half a code of its end, on the grid 1 / 2**bits, beyond ln(2**(bits + 1) - 1). tanh(x), which
    is 2 sigmoid(2 x) - 1 on a grid twice as coarse, is so beyond half of that. A summand is cut to where the sum can
    still be inside, whatever the other summand is: low of the sum less high of the other one, high less low. Gates of
    a recurrent cell reach from -40 to 60, and are told apart between -6 and 6.
    """
    found: dict[str, tuple[float, float]] = {}
    parts: dict[fx.Node, tuple[float, float]] = {}
    for node in reversed(list(program.names)):
        readers = [_part_read(user, node, parts, program, edges) for user in node.users]
        part = _hull(readers) if readers else _EVERYTHING
        parts[node] = part
        name = program.names[node]
        found[name] = _hull([part, found[name]]) if name in found else part
    return {name: _cut(edge, found.get(name, _EVERYTHING)) for name, edge in edges.items()}


def narrow_summands(
    program: Program, edges: dict[str, EdgeRange], histograms: Mapping[str, Histogram]
) -> dict[str, EdgeRange]:
    """All edges, with summands that only gates behind their sum read shrunk to what loses least there.

    `saturate` keeps all that the other summand could bring back if it were at its end; that is rare.
    """
    readers: dict[str, set[tuple[str, str]] | None] = {}
    for node, name in program.names.items():
        found = _gates_behind_sums(node, program, edges)
        before = readers.setdefault(name, set())
        readers[name] = None if before is None or found is None else before | found
    spreads: dict[str, Spread] = {}
    narrowed = dict(edges)
    for name, gates in readers.items():
        if not gates or name not in edges:
            continue
        for own in (name, *(other for _, other in gates)):
            spreads.setdefault(own, spread(histograms[own].centres, histograms[own].counts))
        edge, number = edges[name], parse_number(edges[name].number)
        pairs = [(gate, spreads[other]) for gate, other in sorted(gates)]
        narrowed[name] = _cut(edge, gated_range(spreads[name], pairs, edge.low, edge.high, number.qmin, number.qmax))
    return narrowed


def _gates_behind_sums(node: fx.Node, program: Program, edges: dict[str, EdgeRange]) -> set[tuple[str, str]] | None:
    """Gate and other summand, by name, of every sum that reads `node`; None where something else reads it."""
    found: set[tuple[str, str]] = set()
    for reader in node.users:
        sources = reader.all_input_nodes
        others = [program.names[other] for other in sources if other is not node and other in program.names]
        gates = _gates(reader)
        if kind_of(reader) != "add" or reader.kwargs or len(sources) != 2 or len(others) != 1 or not gates:
            return None
        found |= {(gate, others[0]) for gate in gates}
    return found


def _gates(node: fx.Node) -> set[str]:
    """Kinds of the gates that read `node`, moved or not; empty where anything else does."""
    found: set[str] = set()
    for reader in node.users:
        kind = kind_of(reader)
        behind = {kind} if kind is not None and kind in GATES else _gates(reader) if kind == "move" else set()
        if not behind:
            return set()
        found |= behind
    return found


def _part_read(
    reader: fx.Node,
    source: fx.Node,
    parts: dict[fx.Node, tuple[float, float]],
    program: Program,
    edges: dict[str, EdgeRange],
) -> tuple[float, float]:
    """The part of the values of `source` that changes what `reader` gives, as far as that is told apart."""
    kind = kind_of(reader)
    edge = edges.get(program.names.get(reader, ""))
    if edge is None:
        return _EVERYTHING
    if kind in ("sigmoid", "tanh"):
        end = math.log(2 ** (parse_number(edge.number).bits + 1) - 1) / (1 if kind == "sigmoid" else 2)
        return -end, end
    if kind == "move":
        return parts[reader]
    if kind in ("add", "sub"):
        return _summand(reader, source, parts[reader], program, edges)
    return _EVERYTHING


def _summand(
    reader: fx.Node,
    source: fx.Node,
    total: tuple[float, float],
    program: Program,
    edges: dict[str, EdgeRange],
) -> tuple[float, float]:
    """The part of one summand, from the part of the sum and the range of the other summand."""
    others = [other for other in reader.all_input_nodes if other is not source]
    if len(others) != 1 or reader.kwargs or program.names.get(others[0]) not in edges:
        return _EVERYTHING
    other = edges[program.names[others[0]]]
    low, high = other.low, other.high
    if kind_of(reader) == "sub":
        if reader.args[1] is source:  # other - source
            return low - total[1], high - total[0]
        low, high = -high, -low
    return total[0] - high, total[1] - low


def _hull(parts: list[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in parts), max(high for _, high in parts)


def _cut(edge: EdgeRange, part: tuple[float, float]) -> EdgeRange:
    low, high = max(edge.low, part[0]), min(edge.high, part[1])
    if (low, high) == (edge.low, edge.high):
        return edge
    number = parse_number(edge.number)
    scale, zero_point = affine_grid(low, high, number.qmin, number.qmax)
    return replace(edge, low=low, high=high, scale=scale, zero_point=zero_point)
