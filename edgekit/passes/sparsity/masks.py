"""The masks of one training: tightened along the schedule, and put over the weights after every optimiser step."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgekit.errors import PassError
from edgekit.numerics.sparsity import (
    GROUP,
    GROUP_KEEPS,
    CubicSchedule,
    block_scores,
    expand_blocks,
    kept_count,
    largest,
    largest_of_all,
    two_of_four,
)
from edgekit.passes.sparsity.layers import Prunable, find_prunable
from edgekit.passes.sparsity.record import describe
from edgekit.schema.sparsity import SparsityOptions, SparsityRow

logger = logging.getLogger(__name__)

FREQUENCY = 100  # steps between updates; Zhu and Gupta saw little difference from 100 to 1,000
_LEAST_UPDATES = 10  # a ramp that is too short for it is updated more often
_MUCH = 0.3  # a share of zeros that no dense training leaves by chance


class Masks:
    """Which weights of a network are held at zero, and when more of them are.

    A weight is set to zero after every step of the optimiser, so neither momentum nor weight decay brings it back, and
    a mask only ever loses weights. Every process of a training makes the same masks: it has the same weights, and of
    equal ones the first stay.
    """

    def __init__(
        self, network: nn.Module, options: SparsityOptions, steps: int, inputs: tuple[Tensor, ...], step: str
    ) -> None:
        """Masks of ones; with `method: hold`, of the weights that are not zero.

        Args:
            network: on the device that it is trained on, and so are `inputs`, a few samples.
            steps: of the optimiser, in the whole training.
            step: name of the pass, for errors.

        Raises:
            PassError: nothing can be made sparse, there are no zeros to hold, or the ramp is shorter than `frequency`.
        """
        self.schedule = schedule_of(options, steps, step)
        self._options, self._steps, self._network = options, steps, network
        self._found: Prunable = find_prunable(network, options, inputs, step)
        weights = self._found.weights
        self.tensors: dict[str, Tensor] = {
            name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()
        }
        if options.method == "hold":
            self.tensors = {name: weight.detach() != 0 for name, weight in weights.items()}
            if all(bool(mask.all()) for mask in self.tensors.values()):
                raise PassError(
                    what="no weight is zero that could be held",
                    where=f"step {step}, sparsity.method",
                    fix="make the network sparse first, with `method: gradual` or `one_shot`",
                )
        first = {id(weight): name for name, weight in weights.items()}
        # every name that a state dict has for a weight: shared ones have several
        self._names = {
            name: first[id(parameter)]
            for name, parameter in network.named_parameters(remove_duplicate=False)
            if id(parameter) in first
        }

    def before(self, step: int) -> None:
        """Tighten the masks if an update is due before this step of the optimiser, counted from 0."""
        if self._options.method == "hold" or not self.schedule.updates_at(step):
            return
        sparsity = self.schedule.at(step)
        chosen = self._two_of_four(sparsity) if self._options.pattern == "2:4" else self._by_magnitude(sparsity)
        self.tensors.update(chosen)
        self.apply()

    @torch.no_grad()
    def apply(self) -> None:
        """Set masked weights to zero; not by a product, which would leave minus zeros."""
        for name, weight in self._found.weights.items():
            weight.masked_fill_(~self.tensors[name], 0.0)

    @torch.no_grad()
    def apply_to(self, state: Mapping[str, Tensor]) -> None:
        """Set masked weights in a copy of the network's state to zero, such as the moving average."""
        for name, first in self._names.items():
            state[name].masked_fill_(~self.tensors[first], 0.0)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from saved masks."""
        for name, mask in tensors.items():
            self.tensors[name].copy_(mask)

    def row(self) -> SparsityRow:
        """What became of it, once training is done."""
        return describe(self._network, self._found, self._options, self.schedule, self._steps)

    def _by_magnitude(self, sparsity: float) -> dict[str, Tensor]:
        options = self._options
        block = options.block if options.pattern == "block" else (1, 1)
        weights = self._found.weights
        scores = {name: block_scores(weight, self.tensors[name], block) for name, weight in weights.items()}
        if options.scope == "global":
            keep = kept_count(sum(map(len, scores.values())), sparsity)
            kept = largest_of_all(scores, keep, options.min_keep_ratio)
        else:
            kept = {name: largest(row, kept_count(len(row), sparsity)) for name, row in scores.items()}
        return {name: expand_blocks(mask, weights[name].shape, block) for name, mask in kept.items()}

    def _two_of_four(self, sparsity: float) -> dict[str, Tensor]:
        """Masks of the layers whose turn it is: those that lose least of their weights' energy go first."""
        weights = self._found.weights
        count = round(len(weights) * sparsity / (1 - GROUP_KEEPS / GROUP))
        done = [name for name, mask in self.tensors.items() if not mask.all()]
        masks = {name: two_of_four(weight) for name, weight in weights.items() if name not in done}
        lost = {name: _lost_energy(weights[name], mask) for name, mask in masks.items()}
        turn = sorted(masks, key=lost.__getitem__)[: max(count - len(done), 0)]
        return {name: masks[name] for name in turn}


def schedule_of(options: SparsityOptions, steps: int, step: str) -> CubicSchedule:
    """The schedule in steps of a training of `steps`; the final mask is in force before the last one.

    Raises:
        PassError: `frequency` is longer than the whole ramp.
    """
    if options.method != "gradual":
        return CubicSchedule(options.final_ratio, options.final_ratio, 0, 0, 0)
    begin = min(round(options.begin_ratio * steps), steps - 1)
    ramp = min(round(options.end_ratio * steps), steps - 1) - begin
    every = options.frequency or max(min(FREQUENCY, ramp // _LEAST_UPDATES), 1)
    if every > ramp:
        raise PassError(
            what=f"updates every {every} steps do not fit into a ramp of {ramp}, of {steps} steps in all",
            where=f"step {step}, sparsity.frequency",
            fix="train longer, leave frequency out, or set `method: one_shot`",
        )
    return CubicSchedule(options.initial, options.final_ratio, begin, ramp // every, every)


def warn_of_lost_zeros(network: nn.Module, step: str) -> None:
    """Say so where a network that was made sparse is trained without `sparsity`: it becomes dense again."""
    weights = [weight.detach() for weight in network.parameters() if weight.dim() > 1 and weight.requires_grad]
    zeros, count = (sum(int(n) for n in counts) for counts in _zeros(weights))
    if count and zeros > _MUCH * count:
        logger.warning(
            "step %s: %d of %d weights are zero, and training makes them other than zero; "
            "`sparsity: {method: hold}` keeps them",
            step,
            zeros,
            count,
        )


def _zeros(weights: list[Tensor]) -> tuple[list[int], list[int]]:
    return [int((weight == 0).sum()) for weight in weights], [weight.numel() for weight in weights]


def _lost_energy(weight: Tensor, mask: Tensor) -> float:
    energy = weight.detach().double().square()
    whole = float(energy.sum())
    return float(energy[~mask].sum()) / whole if whole else 0.0
