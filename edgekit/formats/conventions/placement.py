"""Where Q/DQ go: program + table + convention -> which edges carry integers, on which grid, and what stays in float.

One engine for every convention. It knows nothing of ONNX, TFLite or TensorRT; it reads `Convention`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import fx

from edgekit.formats.conventions.convention import Convention
from edgekit.formats.conventions.grids import Grid, cannot_share, decide_grids, fixed_grids, tie
from edgekit.formats.conventions.kernels import constants, gives_floats, output_of, pad_of, rows, sort_operators
from edgekit.nets.operators import DATA_MOVEMENT, activations, kind_of
from edgekit.nets.program import Program
from edgekit.nets.quantisation import QuantisationTable
from edgekit.schema.manifest import InFloat


@dataclass(frozen=True)
class Placement:
    """What a convention makes of a program.

    Attributes:
        grids: every node whose output is quantised, with its grid; stored operands of sums and products among them.
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
        FormatError: the table lacks an edge that the convention needs: it was made for another network; or the runtime
            has no activations of the table's number format.
    """
    integer, reasons = sort_operators(program, table, convention)
    while True:
        wanted = _wanted_edges(integer, convention)
        _through_movement(integer, wanted, convention)
        if convention.integer_inputs:
            for node in [node for node in wanted if node.op == "placeholder"]:
                wanted[node].update(node.users)
        roots, fixed = tie(program, integer, wanted, convention), fixed_grids(integer, wanted, convention)
        torn = cannot_share(integer, wanted, roots, fixed, convention)
        if not torn:
            break
        integer = [node for node in integer if node not in torn]
        reasons |= dict.fromkeys(torn, "one of its inputs has a fixed grid that the others cannot share")
    grids = decide_grids(program, table, wanted, roots, fixed, convention)
    reasons |= _not_in_integers(integer, grids, convention)
    users = {node: tuple(user for user in node.users if user in wanted[node]) for node in grids}
    return Placement(grids, users, tuple(integer), rows(reasons, program))


def _wanted_edges(integer: list[fx.Node], convention: Convention) -> dict[fx.Node, set[fx.Node]]:
    """Quantised producer -> the consumers that read integers."""
    wanted: dict[fx.Node, set[fx.Node]] = {}
    for node in integer:
        kind = kind_of(node)
        if kind in convention.shares_grid & DATA_MOVEMENT:
            continue  # decided by its neighbours
        for source in _quantised_inputs(node, kind, convention):
            wanted.setdefault(source, set()).add(_reader(node, source))
        if convention.outputs and not gives_floats(node, integer, convention):
            out = output_of(node, convention)
            wanted.setdefault(out, set()).update(out.users)
    return wanted


def _reader(node: fx.Node, source: fx.Node) -> fx.Node:
    """The node that takes `source` on behalf of `node`: itself, or the pad that its kernel does first."""
    return node if source in node.all_input_nodes else activations(node)[0]


def _quantised_inputs(node: fx.Node, kind: str | None, convention: Convention) -> list[fx.Node]:
    if (pad := pad_of(node, convention)) is not None:
        return activations(pad)
    sources = [*activations(node), *constants(node)]
    if kind == "add" and convention.skip_only:
        weighted = [s for s in sources if kind_of(s) in ("conv", "linear") and len(s.users) == 1]
        if weighted:
            order = {n: i for i, n in enumerate(node.graph.nodes)}
            main = max(weighted, key=lambda n: order[n])  # the branch computed last; the addition fuses into it
            return [s for s in sources if s is not main]
    return sources


def _through_movement(integer: list[fx.Node], wanted: dict[fx.Node, set[fx.Node]], convention: Convention) -> None:
    """Data movement between integers is done on integers: quantise both of its sides, or neither.

    What an integer kernel wrote is moved as it is. What was float is quantised before it is moved if all who read it
    then want integers; else behind, for those who do.
    """
    moves = [n for n in integer if kind_of(n) in convention.shares_grid & DATA_MOVEMENT]
    made = {output_of(n, convention) for n in integer if n not in moves and not gives_floats(n, integer, convention)}
    made |= {node for node in wanted if node.op == "placeholder"}
    changed = True
    while changed:
        changed = False
        for node in reversed(moves):
            (source, *_) = activations(node)
            as_made, all_want = source in wanted and source in made, wanted.get(node, set()) >= set(node.users)
            if node in wanted.get(source, ()) and all_want and (node in made or not as_made):
                continue
            if as_made or all_want:
                wanted.setdefault(source, set()).add(node)
                wanted.setdefault(node, set()).update(node.users)
                if as_made:
                    made.add(node)
                changed = True


def _not_in_integers(
    integer: Iterable[fx.Node], grids: dict[fx.Node, Grid], convention: Convention
) -> dict[fx.Node, str]:
    """Operators on codes that the runtime has no kernels for: they compute with what the codes stand for."""
    found = {}
    for node in integer:
        if kind_of(node) in DATA_MOVEMENT:
            continue
        for edge in (*activations(node), output_of(node, convention)):
            bits = grids[edge].bits if edge in grids else 8
            how = convention.activations[bits]
            if how == "simulated":
                found[node] = f"simulated: codes of {bits} bits in a tensor of 8, computed in float"
            elif how == "float":
                found[node] = f"{bits}-bit activations are computed in float between Q and DQ"
    return found


def weighted_nodes(nodes: Iterable[fx.Node]) -> Iterator[fx.Node]:
    """The convolutions and linear layers among `nodes`."""
    return (node for node in nodes if kind_of(node) in ("conv", "linear"))
