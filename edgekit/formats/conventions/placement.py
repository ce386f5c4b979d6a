"""Where Q/DQ go: program + table + convention -> which edges carry integers, on which grid, and what stays in float.

One engine for every convention. It knows nothing of ONNX, TFLite or TensorRT; it reads `Convention`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import fx

from edgekit.errors import FormatError
from edgekit.formats.conventions.convention import Convention
from edgekit.nets.graph import is_weight, tensor_of, zero_pad
from edgekit.nets.operators import DATA_MOVEMENT, activations, aten, kind_of
from edgekit.nets.program import Program
from edgekit.nets.quantisation import QuantisationTable
from edgekit.numerics.quantise import affine_grid, symmetric_scale
from edgekit.schema.manifest import InFloat


@dataclass(frozen=True)
class Grid:
    """Integer codes of an activation in one convention."""

    scale: float
    zero_point: int
    tied_to: str | None = None


@dataclass(frozen=True)
class Placement:
    """What a convention makes of a program.

    Attributes:
        grids: every node whose output is quantised, with its grid.
        users: for each of them, the nodes that read the integers; the others read the float tensor.
        integer: operators that run in integers.
        in_float: operators that do not, by name, with the reason.
    """

    grids: dict[fx.Node, Grid]
    users: dict[fx.Node, tuple[fx.Node, ...]]
    integer: tuple[fx.Node, ...]
    in_float: tuple[InFloat, ...]


def place(program: Program, table: QuantisationTable, convention: Convention) -> Placement:
    """Decide which edges of `program` are quantised under `convention`.

    Raises:
        FormatError: the table lacks an edge that the convention needs: it was made for another network.
    """
    integer, in_float = _sort_operators(program, convention)
    wanted = _wanted_edges(integer, convention)
    _through_movement(integer, wanted, convention)
    roots = _tie(integer, wanted, convention)
    ranges: dict[fx.Node, tuple[float, float]] = {}
    for node in wanted:
        edge = table.edges.get(program.names[node])
        if edge is None:
            raise FormatError(
                f"the quantisation table has no edge {program.names[node]!r}",
                f"convention {convention.name}",
                "the network changed after it was quantised; run quantize as the last step",
            )
        root = roots[node]
        low, high = ranges.get(root, (0.0, 0.0))
        ranges[root] = (min(low, edge.low), max(high, edge.high))
    grids = {}
    for node in program.names:
        if node in wanted:
            root = roots[node]
            scale, zero_point = _grid(*ranges[root], convention)
            grids[node] = Grid(scale, zero_point, None if root is node else program.names[root])
    users = {node: tuple(user for user in node.users if user in wanted[node]) for node in grids}
    return Placement(grids, users, tuple(integer), tuple(in_float))


def output_of(node: fx.Node, convention: Convention) -> fx.Node:
    """The node whose output the runtime's kernel writes: `node`, or the activation fused behind it."""
    fused = convention.fuses.get(kind_of(node) or "", frozenset())
    while len(node.users) == 1:
        (user,) = node.users
        if kind_of(user) not in fused:
            break
        node = user
    return node


def pad_of(node: fx.Node, convention: Convention) -> fx.Node | None:
    """The zero pad that the kernel of a convolution does itself, if there is one before it."""
    if node.target is not aten.conv2d.default or not convention.fuses_pad:
        return None
    pad = activations(node)[0]
    return pad if len(pad.users) == 1 and zero_pad(pad) is not None else None


def _sort_operators(program: Program, convention: Convention) -> tuple[list[fx.Node], list[InFloat]]:
    integer: list[fx.Node] = []
    in_float: list[InFloat] = []
    inside_a_kernel: set[fx.Node] = set()
    for node, name in program.names.items():
        if node.op != "call_function" or node in inside_a_kernel:
            continue
        kind = kind_of(node)
        if kind in ("conv", "linear") and not is_weight(node.args[1]):
            in_float.append(InFloat(node=name, op=str(node.target), reason="its weight is computed, not stored"))
        elif kind in convention.integer:
            integer.append(node)
            if (pad := pad_of(node, convention)) is not None:
                inside_a_kernel.add(pad)
                integer = [other for other in integer if other is not pad]
            last = node
            while last is not output_of(node, convention):
                (last,) = last.users
                inside_a_kernel.add(last)
        elif not (kind in ("move", "max_pool", "relu", "clamp") and not convention.outputs):
            # where only inputs are quantised, the runtime moves Q past operators that commute with it
            in_float.append(
                InFloat(node=name, op=str(node.target), reason=f"no integer kernel under convention {convention.name}")
            )
    return integer, in_float


def _wanted_edges(integer: Iterable[fx.Node], convention: Convention) -> dict[fx.Node, set[fx.Node]]:
    """Quantised producer -> the consumers that read integers."""
    wanted: dict[fx.Node, set[fx.Node]] = {}
    for node in integer:
        kind = kind_of(node)
        if kind in convention.shares_grid & DATA_MOVEMENT:
            continue  # decided by its neighbours
        for source in _quantised_inputs(node, kind, convention):
            wanted.setdefault(source, set()).add(_reader(node, source))
        if convention.outputs:
            out = output_of(node, convention)
            wanted.setdefault(out, set()).update(out.users)
    return wanted


def _reader(node: fx.Node, source: fx.Node) -> fx.Node:
    """The node that takes `source` on behalf of `node`: itself, or the pad that its kernel does first."""
    return node if source in node.all_input_nodes else activations(node)[0]


def _quantised_inputs(node: fx.Node, kind: str | None, convention: Convention) -> list[fx.Node]:
    if (pad := pad_of(node, convention)) is not None:
        return activations(pad)
    sources = activations(node)
    if kind == "add" and convention.skip_only:
        weighted = [s for s in sources if kind_of(s) in ("conv", "linear") and len(s.users) == 1]
        if weighted:
            order = {n: i for i, n in enumerate(node.graph.nodes)}
            main = max(weighted, key=lambda n: order[n])  # the branch computed last; the addition fuses into it
            return [s for s in sources if s is not main]
    return sources


def _through_movement(integer: Iterable[fx.Node], wanted: dict[fx.Node, set[fx.Node]], convention: Convention) -> None:
    """Data movement between integers is done on integers: quantise both of its sides, or neither."""
    moves = [n for n in integer if kind_of(n) in convention.shares_grid & DATA_MOVEMENT]
    changed = True
    while changed:
        changed = False
        for node in moves:
            (source, *_) = activations(node)
            if (node in wanted or source in wanted) and not (node in wanted and node in wanted.get(source, ())):
                wanted.setdefault(source, set()).add(node)
                wanted.setdefault(node, set()).update(node.users)
                changed = True


def _tie(
    integer: Iterable[fx.Node], wanted: dict[fx.Node, set[fx.Node]], convention: Convention
) -> dict[fx.Node, fx.Node]:
    """Root of the group of edges that must share one grid, for every wanted edge."""
    parent: dict[fx.Node, fx.Node] = {node: node for node in wanted}

    def root(node: fx.Node) -> fx.Node:
        while parent[node] is not node:
            node = parent[node]
        return node

    for node in integer:
        out = output_of(node, convention)
        if out not in wanted or not (kind_of(node) in convention.shares_grid or _selects(node)):
            continue
        first = None
        for source in activations(node):
            if source in wanted:
                first = first or root(source)
                parent[root(source)] = first
        if first is not None:
            parent[root(out)] = first
    return {node: root(node) for node in wanted}


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


def _grid(low: float, high: float, convention: Convention) -> tuple[float, int]:
    if convention.symmetric:
        return symmetric_scale(max(-low, high), convention.qmax), 0
    return affine_grid(low, high, convention.qmin, convention.qmax)


def weighted_nodes(nodes: Iterable[fx.Node]) -> Iterator[fx.Node]:
    """The convolutions and linear layers among `nodes`."""
    return (node for node in nodes if kind_of(node) in ("conv", "linear"))
