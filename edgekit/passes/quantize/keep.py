"""Operators that stay in float whatever the rest is rounded to: those that the recipe names, and ends of the network
that would share one grid with values of a far larger range.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from torch import fx

from edgekit.errors import PassError
from edgekit.nets.operators import DATA_MOVEMENT, activations, kind_of
from edgekit.nets.program import Program
from edgekit.nets.quantisation import EdgeRange, Kept, QuantisationTable
from edgekit.passes.quantize.simulate import every_layer
from edgekit.schema.find import suggest

logger = logging.getLogger(__name__)

# of what a part of a concatenation has, lost to the range of another: where it costs nothing to avoid, and where not
_LOST_BITS, _TOO_MANY_BITS = 2, 5


def keep_named(program: Program, table: QuantisationTable, patterns: Sequence[str]) -> QuantisationTable:
    """The table with every operator of the modules that `patterns` name kept in float.

    Args:
        patterns: of module paths, `*` matches; what a module holds goes with it. One that has a slash is of activation
            names instead.

    Raises:
        PassError: a pattern names nothing.
    """
    if not patterns:
        return table
    operators = [name for node, name in program.names.items() if _computes(node)]
    kept = dict(table.kept)
    for pattern in patterns:
        found = [name for name in operators if _matches(name, pattern)]
        if not found:
            modules = sorted({name.rpartition("/")[0] for name in operators} - {""})
            raise PassError(
                f"keep_float {pattern!r} names nothing that computes",
                "step quantize, keep_float",
                suggest(pattern, modules, "modules"),
            )
        kept |= {name: Kept("float", f"keep_float {pattern!r}") for name in found if name not in kept}
    return _without_codes(program, replace(table, kept=kept))


def keep_unequal_ends(program: Program, table: QuantisationTable) -> QuantisationTable:
    """The table with concatenations kept in float that would put values of very different ranges on one grid.

    Boxes in pixels and scores in [0, 1], joined into one output, leave the scores a handful of codes. Where nothing
    behind the join computes with integers, nothing is lost by joining floats. The operators before it whose values go
    nowhere else, up to the last layer with a weight, are kept in float with it: their grids would be coarse as well.
    """
    if not table.integer:
        return table
    kept = dict(table.kept)
    for node, name in program.names.items():
        parts = _parts(program, table, node)
        lost = _lost_bits(parts.values())
        if name in kept or lost <= _LOST_BITS:
            continue
        told = ", ".join(f"{part} [{edge.low:.4g}, {edge.high:.4g}]" for part, edge in parts.items())
        moved, readers = _behind(node)
        if any(kind_of(reader) is not None and program.names.get(reader) not in kept for reader in readers):
            if lost > _TOO_MANY_BITS:
                logger.warning("%s puts values of very different ranges on one grid: %s", name, told)
            continue
        reason = f"{name} would put values of very different ranges on one grid: {told}"
        joined = _with_sources({node, *moved})
        names = [own for other, own in program.names.items() if other in joined and _computes(other)]
        kept |= {own: Kept("float", reason) for own in names if own not in kept}
    return replace(table, kept=kept)


def _matches(name: str, pattern: str) -> bool:
    if "/" in pattern:
        return fnmatchcase(name, pattern)
    parts = name.rpartition("/")[0].split(".")
    return any(fnmatchcase(".".join(parts[:count]), pattern) for count in range(1, len(parts) + 1))


def _computes(node: fx.Node) -> bool:
    """Moving values, and taking the largest, is exact on codes as on floats: it goes with what stands around it."""
    return node.op == "call_function" and kind_of(node) not in DATA_MOVEMENT


def _without_codes(program: Program, table: QuantisationTable) -> QuantisationTable:
    """The table without the codes of weights that belong to layers kept in float."""
    layers = every_layer(program)
    floats = {
        program.weight_name(node) for name, node in layers if name in table.kept and table.kept[name].number == "float"
    }
    return replace(table, weights={name: codes for name, codes in table.weights.items() if name not in floats})


def _parts(program: Program, table: QuantisationTable, node: fx.Node) -> dict[str, EdgeRange]:
    """What a concatenation joins, by name, as far as it is ever anything but 0."""
    if kind_of(node) != "concat":
        return {}
    names = [program.edge_name(source) for source in activations(node)]
    return {name: edge for name in names if (edge := table.edges.get(name)) is not None and edge.low < edge.high}


def _lost_bits(edges: Collection[EdgeRange]) -> float:
    """How many bits the part with the smallest range loses on the grid of all."""
    if len(edges) < 2:
        return 0.0
    whole = max(edge.high for edge in edges) - min(edge.low for edge in edges)
    return math.log2(whole / min(edge.high - edge.low for edge in edges))


def _behind(node: fx.Node) -> tuple[set[fx.Node], set[fx.Node]]:
    """What moves and joins the output of `node` further, and what then reads it."""
    moved: set[fx.Node] = set()
    readers: set[fx.Node] = set()
    waiting = list(node.users)
    while waiting:
        user = waiting.pop()
        if kind_of(user) in ("move", "concat"):
            moved.add(user)
            waiting += user.users
        else:
            readers.add(user)
    return moved, readers


def _with_sources(joined: set[fx.Node]) -> set[fx.Node]:
    """`joined` with the operators whose values go nowhere else, up to the kernels of layers with weights."""
    found, waiting = set(joined), list(joined)
    while waiting:
        for source in activations(waiting.pop()):
            alone = source.op == "call_function" and source not in found and set(source.users) <= found
            if alone and not _ends_a_kernel(source):
                found.add(source)
                waiting.append(source)
    return found


def _ends_a_kernel(node: fx.Node) -> bool:
    """Whether a layer with a weight, or a sum, ends here: with its own output, or with the activation behind it."""
    if kind_of(node) in ("relu", "clamp"):
        return kind_of(node.all_input_nodes[0]) in ("conv", "linear", "add")
    return kind_of(node) in ("conv", "linear")
