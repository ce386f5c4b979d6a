"""Weights of `nn.LSTM` in a traced graph. Networks that are step cells of their own are in `recurrent.py`."""

from __future__ import annotations

from torch import fx

from edgekit.nets.graph import aten, is_weight
from edgekit.nets.program import Program


def lstm_weights(program: Program) -> tuple[tuple[str, ...], ...]:
    """Names of the weights of every LSTM layer: those of all directions together, first the input's, then the state's.

    Each weight is (4 * hidden, inputs), its rows in the order of gates i, f, g, o.
    LSTMs with projections are not among them.
    """
    found: list[tuple[str, ...]] = []
    for node in program.module.graph.nodes:
        if node.op == "call_function" and node.target is aten.lstm.input:
            found += _layers(node)
    return tuple(found)


def _layers(node: fx.Node) -> list[tuple[str, ...]]:
    _, _, parameters, has_biases, layers, _, _, bidirectional, _ = node.args
    directions = 2 if bidirectional else 1
    size = 4 if has_biases else 2
    assert isinstance(parameters, list | tuple)
    assert isinstance(layers, int)
    if len(parameters) != size * layers * directions or not all(is_weight(item) for item in parameters):
        return []
    names = [str(item.target) for item in parameters if isinstance(item, fx.Node)]
    cells = [names[i : i + size] for i in range(0, len(names), size)]
    return [
        tuple(cell[position] for cell in cells[layer * directions : (layer + 1) * directions])
        for layer in range(layers)
        for position in (0, 1)
    ]
