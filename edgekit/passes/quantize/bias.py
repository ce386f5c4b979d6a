"""Empirical bias correction: each bias takes back what its layer's outputs were seen to shift by, on average.

Source: Nagel et al., Data-Free Quantization, arXiv:1906.04721, section 4.2 and appendix D.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, fx

from edgekit.nets.graph import LINEAR
from edgekit.nets.quantisation import QuantisationTable
from edgekit.passes.quantize.pieces import cut
from edgekit.passes.quantize.simulate import Simulation, coded, has_bias, written
from edgekit.passes.quantize.stream import Prefix
from edgekit.passes.quantize.task import Task


def correct_biases(task: Task, table: QuantisationTable) -> QuantisationTable:
    """`table` with a measured shift for every layer that has a bias and codes, in order.

    A layer is measured on what the layers before it, rounded and corrected, hand to it. So it takes back their error as
    well as its own, and a later one does not see it. Codes, scales and ranges stay.
    """
    prefix = Prefix.of(task)
    pieces = cut(prefix.program)
    for index, piece in enumerate(pieces):
        for name, node in piece.layers.items():
            if has_bias(node) and prefix.program.weight_name(node) in coded(prefix.program, table):
                table = replace(table, shifts={**table.shifts, name: _shift(prefix, table, name, node)})
        prefix.run(piece.nodes, table)
        task.context.progress(index + 1, len(pieces), "correcting biases")
    return table


def _shift(prefix: Prefix, table: QuantisationTable, name: str, node: fx.Node) -> Tensor:
    """Mean over samples and places of rounded less exact outputs, (C_out,), before they go onto a grid."""
    nothing = {**table.shifts, name: torch.zeros(())}
    edges = set(written(prefix.program)) - {name}
    simulation = Simulation(prefix.program, replace(table, shifts=nothing), edges)
    rounded = prefix.rounded.values([node], simulation)
    exact = prefix.exact.values([node], prefix.floating(table))
    total: Tensor | None = None
    for found, wanted in zip(rounded, exact, strict=True):
        error = (found[node] - wanted[node]).double().movedim(-1 if node.target in LINEAR else 1, -1)
        here = error.flatten(0, -2).mean(0)
        total = here if total is None else total + here
    assert total is not None
    return (total / len(prefix.exact)).float()
