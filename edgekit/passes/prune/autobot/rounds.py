"""What a round of training trains: a number for each gate, or for each block of channels that can only go together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from edgekit.passes.prune.autobot.gates import Gates

INITIAL = math.log(0.9 / 0.1)
"""Logit of a gate before training: it is open by 0.9."""

_AJAR = 0.05  # a gate that was closed or open all the way would hardly move again


@dataclass(frozen=True)
class Round:
    """A round of training.

    Attributes:
        name: of the round, and of its checkpoints' folder.
        places: (gates,), for each gate the place of its logit; the place behind the last is of gates that stay open.
        initial: logits before the round.
        first: number of its first step among those of all rounds: a later round goes on with the data.
        steps: how many it has.
    """

    name: str
    places: Tensor
    initial: Tensor
    first: int
    steps: int

    def spread(self, logits: Tensor) -> Tensor:
        """The logits of all gates (gates,), infinite for those that stay open."""
        return torch.cat([logits, logits.new_full((1,), math.inf)])[self.places.to(logits.device)]


def each_alone(gates: Gates, steps: int) -> Round:
    """The published training: every gate has a logit of its own."""
    return Round("gates", torch.arange(len(gates)), torch.full((len(gates),), INITIAL), 0, steps)


def in_blocks(gates: Gates, logits: Tensor, widths: Mapping[str, Sequence[int]], first: int, steps: int) -> Round:
    """A round on blocks of channels, after one that has ranked them.

    Where widths are multiples, channels go in blocks, and rounding what single gates say changes many channels that the
    loss has never seen go. So the channels of a group, by falling gates, are cut into blocks at the widths that it can
    have, and each block has one gate, which begins as the mean of its channels'. What no width is below stays open.

    Args:
        logits: (gates,), of the round before.
        widths: what each group can have, falling.

    This is ours; the published code rounds no widths.
    """
    places = torch.full((len(gates),), -1)
    initial: list[float] = []
    own = gates.by_group(torch.arange(len(gates)))
    for root, vector in own.items():
        ranked = vector[logits[vector].argsort(descending=True, stable=True)]
        for least, most in pairwise(sorted(widths[root])):
            block = ranked[least:most]
            places[block] = len(initial)
            mean = logits[block].sigmoid().mean().clamp(_AJAR, 1 - _AJAR)
            initial.append(torch.logit(mean).item())
    places[places < 0] = len(initial)
    return Round("blocks", places, torch.tensor(initial), first, steps)
