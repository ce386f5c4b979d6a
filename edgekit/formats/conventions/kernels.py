"""Which operators of a program run in integers under a convention, and what each of their kernels does besides."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import fx

from edgekit.formats.conventions.convention import Convention
from edgekit.nets.graph import is_weight, value_of, zero_pad
from edgekit.nets.operators import DATA_MOVEMENT, activations, aten, kind_of, unmoved
from edgekit.nets.program import Program
from edgekit.nets.quantisation import QuantisationTable
from edgekit.schema.manifest import InFloat

_ACTIVATIONS = frozenset({"relu", "clamp"})
_WITH_CONSTANTS = frozenset({"add", "sub", "mul", "matmul", "concat"})


def sort_operators(
    program: Program, table: QuantisationTable, convention: Convention
) -> tuple[list[fx.Node], dict[fx.Node, str]]:
    """The operators that run in integers, in order, and why the others do not.

    What a kernel does besides its operator, a pad before it or activations behind it, is in neither: it goes where the
    operator goes.
    """
    kept = {name: row.reason for name, row in table.kept.items() if row.number == "float"}
    integer: list[fx.Node] = []
    reasons: dict[fx.Node, str] = {}
    inside_a_kernel: set[fx.Node] = set()
    for node in program.names:
        if node.op != "call_function" or node in inside_a_kernel:
            continue
        kernel = [node] if kind_of(node) not in convention.integer else _kernel(node, convention)
        inside_a_kernel.update(kernel)
        for part in kernel[1:]:
            if part in integer:
                integer.remove(part)  # the pad before it
        named = next((kept[program.names[part]] for part in kernel if program.names[part] in kept), None)
        reason = _why_not(node, convention) if named is None else f"kept in float: {named}"
        if reason is None:
            integer.append(node)
        elif named is not None or not _commutes(node, convention):
            reasons[node] = reason
    _follow_floats(integer, reasons, convention)
    return integer, reasons


def rows(reasons: dict[fx.Node, str], program: Program) -> tuple[InFloat, ...]:
    """What the manifest says of operators in float, in the order of the program."""
    return tuple(
        InFloat(node=name, op=str(node.target), reason=reasons[node])
        for node, name in program.names.items()
        if node in reasons
    )


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


def constants(node: fx.Node) -> list[fx.Node]:
    """Stored operands of a sum, product or concatenation, which are quantised like activations; no layer's weights."""
    return [arg for arg in node.all_input_nodes if is_weight(arg)] if kind_of(node) in _WITH_CONSTANTS else []


def gives_floats(node: fx.Node, integer: list[fx.Node], convention: Convention) -> bool:
    """Whether the integer kernel of `node` hands floats on, because it can and nobody wants integers."""
    out = output_of(node, convention)
    readers = list(_readers(out))
    return (
        kind_of(node) in convention.gives_float
        and bool(readers)
        and not any(reader.op == "output" or reader in integer for reader in readers)
    )


def _kernel(node: fx.Node, convention: Convention) -> list[fx.Node]:
    """`node`, the pad that its kernel does first, and the activations that it does last."""
    found, last = [node], node
    if (pad := pad_of(node, convention)) is not None:
        found.append(pad)
    while last is not output_of(node, convention):
        (last,) = last.users
        found.append(last)
    return found


def _why_not(node: fx.Node, convention: Convention) -> str | None:
    """Why an operator has no integer kernel that pays; None if it has."""
    kind = kind_of(node)
    if kind not in convention.integer:
        return f"no integer kernel under convention {convention.name}"
    if kind in ("conv", "linear") and not is_weight(node.args[1]):
        return "its weight is computed, not stored"
    if kind in convention.least_macs:
        left, right = (value_of(arg).shape for arg in node.args if isinstance(arg, fx.Node))
        macs = math.prod(left[-2:]) * right[-1]
        if macs < convention.least_macs[kind]:
            return f"integers do not pay for a product of {macs:,} multiply-accumulates"
    return None


def _commutes(node: fx.Node, convention: Convention) -> bool:
    """Whether Q moves past the operator by itself: where only inputs are quantised, it is nobody's kernel."""
    return not convention.outputs and kind_of(node) in DATA_MOVEMENT | _ACTIVATIONS


def _follow_floats(integer: list[fx.Node], reasons: dict[fx.Node, str], convention: Convention) -> None:
    """Take out of `integer` what only adds conversions or rounding, since floats are all that stands around it."""
    changed = True
    while changed:
        changed = False
        for node in reversed(integer):
            kind = kind_of(node)
            floats = any(_is_float(source, node, integer, convention) for source in activations(node))
            wanted = any(r.op == "output" or r in integer for r in _readers(output_of(node, convention)))
            if floats and ((kind in convention.follows and not wanted) or kind in _ACTIVATIONS):
                integer.remove(node)
                if kind not in _ACTIVATIONS:
                    reasons[node] = "it stands between operators in float"
                changed = True
        for group in _ending_in_floats(integer, convention):
            readers = {node: set(_readers(output_of(node, convention))) for node in group}
            before = {unmoved(source) for node in group for source in activations(node)} - {
                output_of(node, convention) for node in group
            }
            behind = [node for node in group if readers[node] - group]
            if len(before) <= len(behind):  # as many conversions either way, and nothing is rounded in between
                integer[:] = [node for node in integer if node not in group]
                reasons |= dict.fromkeys(
                    group, "only floats are made of it, and its codes would need as many conversions"
                )
                changed = True


def _ending_in_floats(integer: list[fx.Node], convention: Convention) -> list[set[fx.Node]]:
    """Groups of operators, of those that follow floats, whose outputs only operators in float and of the group read.

    The sums of a residual stream that every layer normalises first are one.
    """
    kinds = convention.follows - (convention.shares_grid if convention.carries_codes else set())
    left = {node for node in integer if kind_of(node) in kinds}
    size = -1
    while size != len(left):
        size = len(left)
        left = {
            node
            for node in left
            if all(r in left or not (r.op == "output" or r in integer) for r in _readers(output_of(node, convention)))
        }
    groups: list[set[fx.Node]] = []
    for node in left:
        joined = {node, *_readers(output_of(node, convention))} & left
        touched = [group for group in groups if group & joined]
        groups = [group for group in groups if group not in touched] + [joined.union(*touched)]
    return groups


def _is_float(source: fx.Node, reader: fx.Node, integer: list[fx.Node], convention: Convention) -> bool:
    """Whether `reader` can have `source` in float for nothing."""
    source = unmoved(source)
    if source.op != "call_function":
        return False
    heads = [node for node in integer if output_of(node, convention) is source]
    if not heads:
        return True
    return kind_of(heads[0]) in convention.gives_float and not any(
        other is not reader and (other.op == "output" or other in integer) for other in _readers(source)
    )


def _readers(node: fx.Node) -> Iterator[fx.Node]:
    """What computes with the output of `node`, however it is moved and activated in between."""
    for user in node.users:
        if kind_of(user) in DATA_MOVEMENT | _ACTIVATIONS:
            yield from _readers(user)
        else:
            yield user
