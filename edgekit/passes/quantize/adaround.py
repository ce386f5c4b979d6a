"""AdaRound: each layer's rounding learned from places where its weight meets its input.

The input is what the layers before it, already rounded, hand to it; the output aimed at is that of the float network on
its own input, behind the activation function that the kernel applies (the asymmetric form of the paper's section 3.4).
Places are drawn over all samples, since neighbouring places of an image say nearly the same: 1,024 of them a step
teach more than a few whole images do, in less time.

Source: Nagel et al., Up or Down? Adaptive Rounding, arXiv:2004.10568.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from edgekit.nets.graph import is_weight, tensor_of
from edgekit.nets.quantisation import QuantisationTable
from edgekit.passes.quantize.learning import Choice, learn
from edgekit.passes.quantize.pieces import cut, fused_behind
from edgekit.passes.quantize.rows import in_slices, means_as_rows, outputs_as_rows, rows_of
from edgekit.passes.quantize.simulate import Simulation, coded, every_layer, takes_back_mean, weighted
from edgekit.passes.quantize.stream import Prefix
from edgekit.passes.quantize.task import Task

PLACES_PER_STEP = 1024
MOST_PLACES = 2**16
LARGEST_BYTES = 2**26  # of the inputs at all places


@dataclass(frozen=True)
class Places:
    """A layer at places drawn from all samples.

    Attributes:
        inputs: (G, K, P), less their mean where the bias takes back what rounding shifts at it.
        outputs: (G, O, P), of the float network.
        bias: (G, O, 1), with which float weights on `inputs` give the float layer's outputs.
        activate: the activation function of the kernel.
    """

    inputs: Tensor
    outputs: Tensor
    bias: Tensor
    activate: Callable[[Tensor], Tensor]

    def error(self, weight: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Mean squared error of the layer's outputs with another weight, at some of the places."""
        made = weight.reshape(*self.outputs.shape[:2], -1) @ self.inputs[..., start:stop] + self.bias
        return F.mse_loss(self.activate(made), self.outputs[..., start:stop])


def round_by_adaround(task: Task, table: QuantisationTable) -> QuantisationTable:
    """`table` with codes learned layer by layer; scales and ranges stay."""
    prefix = Prefix.of(task)
    pieces = cut(prefix.program)
    for index, piece in enumerate(pieces):
        for name in piece.layers:
            table = learn_layer(prefix, table, name, task.options.rounding_iterations)
        prefix.run(piece.nodes, table)
        task.context.progress(index + 1, len(pieces), "learning to round, layer by layer")
    return table


def learn_layer(prefix: Prefix, table: QuantisationTable, name: str, iterations: int) -> QuantisationTable:
    """`table` with the codes of one layer learned; as it was where rounding to nearest is as good.

    Args:
        prefix: up to the piece that the layer is in.
    """
    program = prefix.program
    node = weighted(program)[name]
    weight = program.weight_name(node)
    if weight in prefix.decided or weight not in coded(program, table):
        return table
    prefix.decided.add(weight)
    choice = Choice.of(tensor_of(program.module, node.args[1]).detach(), table.weights[weight])  # type: ignore[arg-type]
    if not choice.free.any():
        return table
    places = _draw(prefix, table, name, choice.weight)
    with torch.no_grad():
        at_nearest = places.error(choice.nearest()).item()
    if at_nearest == 0:
        return table
    count = places.inputs.shape[-1]
    size = min(PLACES_PER_STEP, count)

    def error(step: int) -> Tensor:
        start = step * size % (count - size + 1)
        return places.error(choice.soft(), start, start + size)

    learn([choice], error, at_nearest, iterations)
    with torch.no_grad():
        if places.error(choice.hard()).item() >= at_nearest:
            return table
    return replace(table, weights={**table.weights, weight: choice.codes()})


def _draw(prefix: Prefix, table: QuantisationTable, name: str, weight: Tensor) -> Places:
    program = prefix.program
    steps = [own for called, own in every_layer(program) if called == name]  # one but for recurrent networks
    node, behind = steps[-1], fused_behind(program, name)
    ends = {own: own if behind is None else next(iter(own.users)) for own in steps}
    sources = {own: own.all_input_nodes[0] for own in steps}
    given = prefix.rounded.values(list(sources.values()), Simulation(program, table))
    wanted = prefix.exact.values(list(ends.values()), prefix.floating(table))
    inputs, outputs = [], []
    for seen, aimed in zip(given, wanted, strict=True):
        for own in steps:
            for values, made in in_slices(node, weight.shape, seen[sources[own]], aimed[ends[own]]):
                rows = rows_of(node, weight.shape, values)
                share = len(values) / (len(prefix.exact) * len(seen[sources[own]]) * len(steps))
                most = min(MOST_PLACES, LARGEST_BYTES // (4 * rows.shape[0] * rows.shape[1]))
                drawn = torch.randperm(rows.shape[-1], generator=prefix.generator)[: max(1, int(most * share))]
                inputs.append(rows[..., drawn])
                outputs.append(outputs_as_rows(node, made)[..., drawn])
    rows = torch.cat(inputs, -1)
    order = torch.randperm(rows.shape[-1], generator=prefix.generator)
    rows = rows[..., order].contiguous()
    groups, count = rows.shape[:2]
    matrix = weight.reshape(groups, -1, count)
    bias = torch.zeros(groups, matrix.shape[1], 1)
    if len(node.args) > 2 and is_weight(node.args[2]):
        bias = tensor_of(program.module, node.args[2]).detach().reshape(bias.shape)  # type: ignore[arg-type]
    if takes_back_mean(table, name, node):
        mean = means_as_rows(table.means[name], groups, count)
        rows, bias = rows - mean, bias + matrix @ mean
    return Places(rows, torch.cat(outputs, -1)[..., order].contiguous(), bias, _function(behind))


def _function(node: fx.Node | None) -> Callable[[Tensor], Tensor]:
    """What an activation node computes of its input."""

    def activate(values: Tensor) -> Tensor:
        return values if node is None else node.target(values, *node.args[1:], **node.kwargs)  # type: ignore[operator]

    return activate
