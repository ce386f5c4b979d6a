"""Training that empties whole channels, so that pruning them afterwards costs little.

Source: Fang et al., DepGraph, arXiv:2301.12900, section 3.3, eq. 6, and the authors' library for the weights 2^(...).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.passes.losses import Inputs, LossFunction
from edgekit.passes.prune.group import ChannelGroup
from edgekit.passes.prune.groups import find_groups
from edgekit.passes.prune.importance import scored_weights
from edgekit.schema.sparsity import GroupSparsityOptions


@dataclass(frozen=True)
class _Side:
    """A weight of a group: `channel[i]` is the group's channel that index i of `axis` is, or `width` for none."""

    weight: nn.Parameter
    axis: int
    channel: Tensor


@dataclass(frozen=True)
class GroupPenalty:
    """weight / 2 * sum over groups and channels of gamma_k R_k, with R_k the squares of everything that channel k has.

    gamma_k = 2^(alpha (I_max - I_k) / (I_max - I_min)) of the group's own norms I = sqrt(R), a constant for the
    gradient: the weakest channels are pressed 2^alpha times as hard as the strongest. Where all are equal it is 1.
    """

    groups: tuple[tuple[int, tuple[_Side, ...]], ...]
    options: GroupSparsityOptions

    @classmethod
    def of(cls, model: Model, network: nn.Module, options: GroupSparsityOptions, step: str) -> GroupPenalty:
        """The penalty on the weights of `network`, a copy of the model's own.

        Raises:
            PassError: `keep` names no layer, the network cannot be traced, or no channels of it can be pruned.
        """
        found = find_groups(model, options.keep)
        if not found.groups:
            raise PassError(
                what="no channels of the network can be pruned",
                where=f"step {step}, group_sparsity",
                fix="; ".join(f"{root}: {reason}" for root, reason in found.left.items()) or "drop group_sparsity",
            )
        weights = scored_weights(network)
        return cls(tuple((group.width, _sides(group, weights)) for group in found.groups), options)

    def __call__(self) -> Tensor:
        """A scalar with a gradient."""
        terms = [self._of_group(width, sides) for width, sides in self.groups]
        return self.options.weight / 2 * torch.stack(terms).sum()

    def _of_group(self, width: int, sides: Sequence[_Side]) -> Tensor:
        squares = sides[0].weight.new_zeros(width + 1)
        for side in sides:
            own = side.weight.square().movedim(side.axis, 0).reshape(len(side.channel), -1).sum(1)
            squares = squares.index_add(0, side.channel.to(own.device), own)
        squares = squares[:width]
        return (gammas(squares.detach(), self.options.alpha) * squares).sum()


def gammas(squares: Tensor, alpha: float) -> Tensor:
    """2^(alpha (I_max - I) / (I_max - I_min)) of norms I = sqrt(squares), (width,); ones where all are equal."""
    norms = squares.sqrt()
    spread = norms.max() - norms.min()
    share = torch.where(spread > 0, (norms.max() - norms) / spread, 0.0)
    return torch.exp2(alpha * share)


def penalised(loss: LossFunction, penalty: GroupPenalty) -> LossFunction:
    """The loss with the penalty on top."""

    def whole(outputs: Any, inputs: Inputs, labels: Tensor) -> Tensor:
        return loss(outputs, inputs, labels) + penalty()

    return whole


def _sides(group: ChannelGroup, weights: dict[str, nn.Parameter]) -> tuple[_Side, ...]:
    found = []
    for member in group.members:
        weight = weights.get(member.layer)
        if weight is None:
            continue
        channel = torch.full((weight.shape[member.axis],), group.width)
        for index, own in enumerate(member.channels):
            channel[list(own)] = index
        found.append(_Side(weight, member.axis, channel))
    return tuple(found)
