"""Grids of quantised edges: ranges of the table, joined where edges must share a grid, in a convention's own codes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch
from torch import fx

from edgekit.errors import FormatError
from edgekit.formats.conventions.convention import Convention
from edgekit.formats.conventions.kernels import constants, output_of
from edgekit.nets.graph import is_weight, tensor_of
from edgekit.nets.movement import origin
from edgekit.nets.operators import activations, aten, kind_of
from edgekit.nets.program import Program
from edgekit.nets.quantisation import EdgeRange, QuantisationTable
from edgekit.numerics.number import parse_number
from edgekit.numerics.quantise import affine_grid, symmetric_scale


@dataclass(frozen=True)
class Grid:
    """Integer codes of an activation in one convention.

    Attributes:
        qmin, qmax: smallest and largest code.
        dtype: what codes are stored in; it may hold more codes than the grid has.
    """

    scale: float
    zero_point: int
    qmin: int
    qmax: int
    dtype: str
    tied_to: str | None = None

    @property
    def bits(self) -> int:
        """Of one code."""
        return (self.qmax - self.qmin).bit_length()

    @property
    def ends(self) -> tuple[float, float] | None:
        """Smallest and largest value, where the stored type would hold codes beyond them."""
        limits = torch.iinfo(getattr(torch, self.dtype))
        if (self.qmin, self.qmax) == (limits.min, limits.max):
            return None
        return self.scale * (self.qmin - self.zero_point), self.scale * (self.qmax - self.zero_point)


def decide_grids(
    program: Program,
    table: QuantisationTable,
    wanted: Collection[fx.Node],
    roots: dict[fx.Node, fx.Node],
    fixed: dict[fx.Node, tuple[float, int]],
    convention: Convention,
) -> dict[fx.Node, Grid]:
    """A grid for every wanted edge, in the order of the program.

    Args:
        roots: of `tie`.
        fixed: of `fixed_grids`.

    Raises:
        FormatError: the table lacks an edge: it was made for another network; or the runtime has no such codes.
    """
    ranges: dict[fx.Node, EdgeRange] = {}
    for node in wanted:
        edge, root = _edge(program, table, node, convention), roots[node]
        ranges[root] = edge if root not in ranges else _joined(ranges[root], edge)
    of_group = {roots[node]: grid for node, grid in fixed.items()}
    found = {}
    for node in program.module.graph.nodes:
        if node in wanted:
            root = roots[node]
            name = program.names.get(root, str(root.target))
            grid = _grid(ranges[root], of_group.get(root), convention, name)
            tied_to = None if root is node else name
            found[node] = Grid(grid.scale, grid.zero_point, grid.qmin, grid.qmax, grid.dtype, tied_to)
    return found


def tie(
    program: Program, integer: Iterable[fx.Node], wanted: Collection[fx.Node], convention: Convention
) -> dict[fx.Node, fx.Node]:
    """Root of the group of edges that must share one grid, for every wanted edge.

    Nodes of one name are one edge: a recurrent network's at every step, and a state before and behind one.
    """
    named: dict[str, fx.Node] = {}
    parent: dict[fx.Node, fx.Node] = {}
    for node in program.module.graph.nodes:
        if node in wanted:
            parent[node] = named.setdefault(program.names[node], node) if node in program.names else node

    def root(node: fx.Node) -> fx.Node:
        while parent[node] is not node:
            node = parent[node]
        return node

    for node in integer:
        out = output_of(node, convention)
        if out not in wanted or not (kind_of(node) in convention.shares_grid or _selects(node)):
            continue
        first = None
        for source in [*activations(node), *constants(node)]:
            if source in wanted:
                first = first or root(source)
                parent[root(source)] = first
        if first is not None:
            parent[root(out)] = first
    return {node: root(node) for node in wanted}


def fixed_grids(
    integer: Iterable[fx.Node], wanted: Collection[fx.Node], convention: Convention
) -> dict[fx.Node, tuple[float, int]]:
    """Scale and zero point of the edges whose grid the runtime dictates."""
    shift = 0 if convention.signed else 128
    found = {}
    for node in integer:
        out = output_of(node, convention)
        if out in wanted and (grid := convention.fixed.get(kind_of(node) or "")) is not None:
            found[out] = (grid[0], grid[1] + shift)
    return found


def cannot_share(
    integer: Iterable[fx.Node],
    wanted: Collection[fx.Node],
    roots: dict[fx.Node, fx.Node],
    fixed: dict[fx.Node, tuple[float, int]],
    convention: Convention,
) -> list[fx.Node]:
    """Operators on several inputs that ask for one grid where one of them has a fixed one and others have not."""
    found = []
    for node in integer:
        sources = [source for source in [*activations(node), *constants(node)] if source in wanted]
        if kind_of(node) not in convention.shares_grid or len(sources) < 2:
            continue
        group = roots[sources[0]]
        own = {grid for edge, grid in fixed.items() if roots[edge] is group}
        starts = {origin(source) for source in sources}
        if own and (len(own) > 1 or not starts <= fixed.keys()):
            found.append(node)
    return found


def _edge(program: Program, table: QuantisationTable, node: fx.Node, convention: Convention) -> EdgeRange:
    """What the table knows of an edge. Movement made by tracing has the range of what it moves."""
    if is_weight(node):
        values = tensor_of(program.module, node)
        return EdgeRange(min(float(values.min()), 0.0), max(float(values.max()), 0.0), 1.0, 0)
    name = program.edge_name(node)
    if name not in table.edges:
        raise FormatError(
            f"the quantisation table has no edge {name!r}",
            f"convention {convention.name}",
            "the network changed after it was quantised; run quantize as the last step",
        )
    return table.edges[name]


def _joined(first: EdgeRange, second: EdgeRange) -> EdgeRange:
    wider = max(first, second, key=lambda edge: edge.bits)
    return EdgeRange(min(first.low, second.low), max(first.high, second.high), 1.0, 0, wider.number)


def _grid(edge: EdgeRange, fixed: tuple[float, int] | None, convention: Convention, name: str) -> Grid:
    number = parse_number(edge.number)
    if number.bits not in convention.activations:
        raise FormatError(
            f"no {number.bits}-bit activations under convention {convention.name}",
            f"activation {name}, {edge.number}",
            f"set `activations` to int8, or drop the format; it has {_list(convention.activations)} bits",
        )
    wide = number.bits > 8
    shift = 0 if convention.signed or wide else 1 << (number.bits - 1)
    qmin, qmax = number.qmin + shift, number.qmax + shift
    dtype = "int16" if wide else "int8" if convention.signed else "uint8"
    if fixed is not None:
        scale, zero_point = (1 / (1 << 15), 0) if wide else fixed
    elif convention.symmetric or wide:
        scale, zero_point = symmetric_scale(max(-edge.low, edge.high), qmax), 0
    else:
        scale, zero_point = affine_grid(edge.low, edge.high, qmin, qmax)
    return Grid(scale, zero_point, qmin, qmax, dtype)


def _list(bits: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(bits)))


def _selects(node: fx.Node) -> bool:
    """Whether a convolution only picks input channels, as the fixed shortcut of a CIFAR ResNet does.

    Its outputs are values of its input: on a grid of their own they would be rounded a second time for nothing.
    """
    if node.target is not aten.conv2d.default or (len(node.args) > 2 and node.args[2] is not None):
        return False
    owner = node.graph.owning_module
    assert owner is not None
    if not is_weight(node.args[1]) or _is_activated(node):
        return False
    weight = tensor_of(owner, node.args[1])  # type: ignore[arg-type]
    filters = weight.flatten(1)
    return bool(((filters == 0) | (filters == 1)).all()) and bool((filters.sum(1) <= 1).all())


def _is_activated(node: fx.Node) -> bool:
    """Whether the only reader of `node` is an activation: what is stored then is not the value that was picked."""
    return len(node.users) == 1 and kind_of(next(iter(node.users))) in ("relu", "clamp")
