"""What a recurrent network needs of quantisation beyond its ranges: states that add up stay in float."""

from __future__ import annotations

from dataclasses import replace

from torch import fx

from edgekit.nets.model import Model
from edgekit.nets.operators import kind_of
from edgekit.nets.program import Program, trace
from edgekit.nets.quantisation import Kept, QuantisationTable
from edgekit.nets.recurrent import recurrent_network, step_model
from edgekit.numerics.number import parse_number

_BY_ELEMENT = frozenset({"add", "sub", "mul", "tanh", "sigmoid"})
_ENOUGH_BITS = 16  # LiteRT's own integer LSTM has 16 bits for the cell state too


def keep_accumulators(model: Model, table: QuantisationTable) -> QuantisationTable:
    """The table with the element-wise operators around every accumulating state of a recurrent network kept in float.

    These are the one that makes the next state, the products that it adds up, and those that read the state. Rounding
    the state to 8 bits at every step leaves a sum of as many errors as there were steps; all other operators of a cell
    work on values that are made anew at every step.
    """
    network = recurrent_network(model)
    if network is None or not table.edges or parse_number(table.activations).bits >= _ENOUGH_BITS:
        return table
    program = trace(step_model(model))
    nodes = list(program.module.graph.nodes)
    _, *given = (node for node in nodes if node.op == "placeholder")
    _, *made = next(node for node in nodes if node.op == "output").args[0]
    kept = dict(table.kept)
    for state, before, after in zip(network.states, given, made, strict=True):
        if state.accumulates:
            reason = f"state {state.name} is added to at every step, and the rounding of 8 bits would add up with it"
            kept |= {name: Kept("float", reason) for name in _around(program, before, after)}
    return replace(table, kept=kept)


def _around(program: Program, before: fx.Node, after: fx.Node) -> list[str]:
    """Names of the operators that read or make a state, and of the products that the making one adds."""
    chosen = {after, *before.users, *after.users}
    if kind_of(after) in ("add", "sub"):
        chosen |= {source for source in after.all_input_nodes if kind_of(source) == "mul"}
    return [name for node, name in program.names.items() if node in chosen and kind_of(node) in _BY_ELEMENT]
