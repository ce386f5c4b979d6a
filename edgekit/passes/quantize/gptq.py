"""GPTQ for every layer of a network, each on what the layers before it, already rounded, hand to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, fx

from edgekit.nets.graph import tensor_of
from edgekit.nets.program import Program
from edgekit.nets.quantisation import QuantisationTable, WeightCodes
from edgekit.numerics.gptq import gptq
from edgekit.numerics.number import Half, find_number
from edgekit.numerics.rounding import nearest_point
from edgekit.passes.quantize.pieces import cut
from edgekit.passes.quantize.rows import in_slices, means_as_rows, rows_of
from edgekit.passes.quantize.simulate import Simulation, coded, every_layer, takes_back_mean
from edgekit.passes.quantize.stream import Stream, traced_batches
from edgekit.passes.quantize.task import Task


def round_by_gptq(task: Task, table: QuantisationTable) -> QuantisationTable:
    """`table` with the codes that GPTQ chooses; scales and ranges stay.

    Where the bias takes back what rounding shifts on average, only the error around the mean is left to GPTQ: its
    Hessian is then of the inputs less their means.
    """
    program, batches = traced_batches(task)
    stream = Stream(program, batches)
    done: set[str] = set()  # a weight of several layers is rounded at the first
    pieces = cut(program)
    for index, piece in enumerate(pieces):
        for name, node in piece.layers.items():
            weight = program.weight_name(node)
            if weight in coded(program, table) and weight not in done:
                simulation = Simulation(program, table)
                sources = [node.all_input_nodes[0] for own, node in every_layer(program) if own == name]
                inputs = (values[source] for values in stream.values(sources, simulation) for source in sources)
                mean = table.means[name] if takes_back_mean(table, name, node) else None
                codes = _round_layer(program, node, table.weights[weight], inputs, mean)
                table = replace(table, weights={**table.weights, weight: codes})
                done.add(weight)
        stream.run(piece.nodes, Simulation(program, table))
        task.context.progress(index + 1, len(pieces), "rounding by GPTQ")
    return table


def second_moments(node: fx.Node, shape: torch.Size, inputs: Iterable[Tensor], mean: Tensor | None) -> Tensor:
    """Sum of x x^T over every place where a layer's weight meets its input, (groups, K, K) float64.

    Args:
        shape: of the weight.
        inputs: of the layer, batch by batch.
        mean: of every input channel, (C_in,), which is taken off first; None for none.
    """
    found: Tensor | None = None
    for batch in inputs:
        for (values,) in in_slices(node, shape, batch):
            rows = rows_of(node, shape, values)
            if mean is not None:
                rows = rows - means_as_rows(mean, *rows.shape[:2])
            here = (rows @ rows.transpose(1, 2)).double()
            found = here if found is None else found + here
    assert found is not None
    return found


def _round_layer(
    program: Program, node: fx.Node, stored: WeightCodes, inputs: Iterable[Tensor], mean: Tensor | None
) -> WeightCodes:
    weight = tensor_of(program.module, node.args[1]).detach()  # type: ignore[arg-type]
    number = find_number(stored.number)
    assert not isinstance(number, Half)
    hessian = second_moments(node, weight.shape, inputs, mean)
    groups, columns, _ = hessian.shape
    shape = (groups, weight.numel() // (groups * columns), columns)
    points = gptq(weight.reshape(shape), stored.spread().reshape(shape), hessian, lambda x: nearest_point(x, number))
    return stored.at(points.reshape(weight.shape))
