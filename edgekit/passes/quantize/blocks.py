"""Block reconstruction: the rounding of all layers of a block, and the steps of its activations, learned at once.

What the block gives is compared with the float network's. In learning, each value of an activation is rounded or left
as it is at random (QDrop), so that the weights found do not lean on one rounding of the activations. Where the network
does not narrow, layers are learned alone, by AdaRound.

Source: Li et al., BRECQ, arXiv:2102.05426, in its released form, which minimises the plain squared error; Wei et al.,
QDrop, arXiv:2203.05740.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.nn import functional as F

from edgekit.nets.graph import tensor_of, value_of
from edgekit.nets.quantisation import EdgeRange, QuantisationTable
from edgekit.numerics.bias import rounding_shift
from edgekit.numerics.learned_step import round_with_learned_step
from edgekit.numerics.number import Integer, find_number
from edgekit.passes.quantize.adaround import learn_layer
from edgekit.passes.quantize.learning import Choice, learn
from edgekit.passes.quantize.pieces import Piece, cut
from edgekit.passes.quantize.simulate import Simulation, every_layer, takes_back_mean
from edgekit.passes.quantize.stream import Prefix, evaluate
from edgekit.passes.quantize.task import Task
from edgekit.schema.passes import QuantizeOptions

LARGEST = 8  # layers of a block
STEP_LEARNING_RATE = 5e-4  # of a step's ratio to what it was: 500 steps may move it by a tenth
_SHIFTS = 2**16  # places at which a drawn mask may begin


def round_by_blocks(task: Task, table: QuantisationTable) -> QuantisationTable:
    """`table` with codes and scales of activations learned block by block."""
    prefix = Prefix.of(task, task.options.rounding_batch)
    pieces = cut(prefix.program)
    for index, piece in enumerate(pieces):
        if piece.narrow and len(piece.layers) <= LARGEST:
            table = _learn_block(prefix, table, piece, task.options)
        else:
            for name in piece.layers:
                table = learn_layer(prefix, table, name, task.options.rounding_iterations)
        prefix.run(piece.nodes, table)
        task.context.progress(index + 1, len(pieces), "learning to round, block by block")
    return table


class Learning(Simulation):
    """A block while it is learned: soft weights, learned steps, some activations left as they are.

    Attributes:
        choices: of the weights that are learned, by name.
        steps: name of an activation's node -> ratio of its scale to the table's.
        keep: share of the values of every activation that are rounded; 1 rounds all.
    """

    def __init__(self, prefix: Prefix, table: QuantisationTable, piece: Piece, keep: float) -> None:
        super().__init__(prefix.program, table)
        program, generator, decided = prefix.program, prefix.generator, prefix.decided
        self.keep = keep
        self._table, self._generator = table, generator
        self._layers = {program.weight_name(node): (name, node) for name, node in piece.layers.items()}
        self._steps_of: dict[str, list[str]] = {}
        for name, node in every_layer(program):
            self._steps_of.setdefault(name, []).append(node.name)
        self.choices: dict[str, Choice] = {}
        for weight, (_, node) in self._layers.items():
            if weight in self.weights and weight not in decided:
                choice = Choice.of(tensor_of(program.module, node.args[1]).detach(), table.weights[weight])  # type: ignore[arg-type]
                self.choices |= {weight: choice} if choice.free.any() else {}
        own = {node.name for node in piece.nodes}
        self.steps = {
            name: torch.ones((), requires_grad=True)
            for name, edge in self._edges.items()
            if name in own and isinstance(find_number(edge.number), Integer)
        }
        largest = max(value_of(node).numel() for node in (*piece.nodes, *piece.inputs) if "val" in node.meta)
        # a mask is a stretch of this one, from a place drawn each time: drawing each anew takes longer than the block
        self._masks = (torch.rand(largest + _SHIFTS, generator=generator) < keep).float()

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Replace weights of the block, and what their biases take back."""
        self.weights |= weights
        for weight, values in weights.items():
            name, node = self._layers[weight]
            if takes_back_mean(self._table, name, node):
                shift = rounding_shift(values - self.choices[weight].weight, self._table.means[name])
                self.shifts |= dict.fromkeys(self._steps_of[name], shift)

    def on_grid(self, node: fx.Node, value: Tensor, edge: EdgeRange) -> Tensor:
        """The value rounded with the step as learned so far, where it is rounded."""
        ratio = self.steps.get(node.name)
        if ratio is None:
            return self.drop(super().on_grid(node, value, edge), value)
        number = find_number(edge.number)
        assert isinstance(number, Integer)
        rounded = round_with_learned_step(value, ratio * edge.scale, edge.zero_point, number.qmin, number.qmax)
        return self.drop(rounded, value)

    def drop(self, rounded: Tensor, exact: Tensor) -> Tensor:
        """Each value rounded with probability `keep`, else exact."""
        if self.keep == 1:
            return rounded
        start = int(torch.randint(_SHIFTS, (), generator=self._generator))
        return torch.lerp(exact, rounded, self._masks[start : start + exact.numel()].view(exact.shape))


def _learn_block(prefix: Prefix, table: QuantisationTable, piece: Piece, options: QuantizeOptions) -> QuantisationTable:
    learning = Learning(prefix, table, piece, options.keep_quantised_ratio)
    prefix.decided.update(learning.choices)
    if not learning.choices:
        return table
    end, floating = piece.nodes[-1], prefix.floating(table)
    rounded = list(prefix.rounded.values(piece.inputs, Simulation(prefix.program, table)))
    exact = list(prefix.exact.values(piece.inputs, floating))
    wanted = [values[end] for values in prefix.exact.values([end], floating)]
    order: list[int] = []

    def error(step: int) -> Tensor:
        if not order:
            order.extend(torch.randperm(len(wanted), generator=prefix.generator).tolist())
        batch = order.pop()
        learning.take({name: choice.soft() for name, choice in learning.choices.items()})
        inputs = {node: learning.drop(value, exact[batch][node]) for node, value in rounded[batch].items()}
        return F.mse_loss(evaluate(learning, piece.nodes, inputs)[end], wanted[batch])

    def error_of(weights: Mapping[str, Tensor]) -> float:
        """Over all samples, nothing dropped."""
        keep, learning.keep = learning.keep, 1.0
        learning.take(weights)
        with torch.no_grad():
            found = [evaluate(learning, piece.nodes, inputs)[end] for inputs in rounded]
        learning.keep = keep
        return float(np.mean([F.mse_loss(*pair).item() for pair in zip(found, wanted, strict=True)]))

    at_nearest = error_of({name: choice.nearest() for name, choice in learning.choices.items()})
    if at_nearest == 0:
        return table
    steps: dict[str, Any] = {"params": list(learning.steps.values()), "lr": STEP_LEARNING_RATE}
    choices = list(learning.choices.values())
    learn(choices, error, at_nearest, options.rounding_iterations, [steps] if learning.steps else [])
    with torch.no_grad():
        if error_of({name: choice.hard() for name, choice in learning.choices.items()}) >= at_nearest:
            return table
        codes = {name: choice.codes() for name, choice in learning.choices.items()}
    names = {node.name: name for node, name in prefix.program.names.items()}
    edges = {names[node]: _rescaled(table.edges[names[node]], ratio.item()) for node, ratio in learning.steps.items()}
    return replace(table, weights={**table.weights, **codes}, edges={**table.edges, **edges})


def _rescaled(edge: EdgeRange, ratio: float) -> EdgeRange:
    return replace(edge, low=edge.low * ratio, high=edge.high * ratio, scale=float(np.float32(edge.scale * ratio)))
