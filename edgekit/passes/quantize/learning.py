"""The loop that learns which way each weight is rounded, whatever the error is that it is to make small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgekit.nets.quantisation import WeightCodes
from edgekit.numerics.number import Half, find_number
from edgekit.numerics.rounding import (
    beta_at,
    nearest_point,
    neighbours,
    rectified_sigmoid,
    share_of_upper,
    undecided,
    variable_of,
)

# the paper's rate, 0.001, takes 10,000 steps. 0.1 decides over 99 % of all weights in 500, 0.03 some 95 % of them
LEARNING_RATE = 0.1
# weight of the regulariser, as a mean over the weights, beside the error over that of rounding to nearest: both are
# free of the units of the outputs, where the paper's 0.01 times the sum is not. From 10 to 100 makes no difference
REGULARISER = 30.0


@dataclass(frozen=True)
class Choice:
    """Which of its two points each weight of a layer takes, as far as it has been learned.

    Attributes:
        weight, scale, lower, upper: shaped like the weight; the points are in units of the scale.
        variable: V of the soft weight, with a gradient.
    """

    stored: WeightCodes
    weight: Tensor
    scale: Tensor
    lower: Tensor
    upper: Tensor
    variable: Tensor

    @classmethod
    def of(cls, weight: Tensor, stored: WeightCodes) -> Choice:
        """Every weight between its points where it was, so that the soft weight is the weight itself."""
        number, scale = find_number(stored.number), stored.spread()
        assert not isinstance(number, Half)
        scaled = weight / scale
        lower, upper = neighbours(scaled, number)
        variable = variable_of(share_of_upper(scaled, lower, upper))
        return cls(stored, weight, scale, lower, upper, variable.requires_grad_())

    @property
    def free(self) -> Tensor:
        """Which weights have two points."""
        return self.upper > self.lower

    def share(self) -> Tensor:
        """Of the upper point in each weight."""
        return rectified_sigmoid(self.variable)

    def soft(self) -> Tensor:
        """The weight as it is while it is learned."""
        return (self.lower + self.share() * (self.upper - self.lower)) * self.scale

    def nearest(self) -> Tensor:
        """The weight rounded to nearest."""
        number = find_number(self.stored.number)
        assert not isinstance(number, Half)
        return nearest_point(self.weight / self.scale, number) * self.scale

    def hard(self) -> Tensor:
        """The weight at the points that were chosen."""
        return self._points() * self.scale

    def codes(self) -> WeightCodes:
        """Codes of the points that were chosen."""
        return self.stored.at(self._points())

    def _points(self) -> Tensor:
        return torch.where(self.share() >= 0.5, self.upper, self.lower)


def learn(
    choices: Sequence[Choice],
    error: Callable[[int], Tensor],
    at_nearest: float,
    iterations: int,
    others: Sequence[dict[str, Any]] = (),
) -> None:
    """Move the variables of `choices` until each weight is at one of its points and `error` is small.

    Args:
        error: of the soft weights, at a step.
        at_nearest: the error of weights rounded to nearest, above 0, in whose units the loss is.
        others: what else is learned, as parameter groups of Adam; their rates fall to 0 along a cosine.

    Source: Nagel et al., AdaRound, arXiv:2004.10568, eq. 21 to 25.
    """
    count = max(sum(int(choice.free.sum()) for choice in choices), 1)
    variables = {"params": [choice.variable for choice in choices], "lr": LEARNING_RATE}
    optimizer = torch.optim.Adam([variables, *others])
    rates = [group["lr"] for group in optimizer.param_groups]
    for step in range(iterations):
        for group, rate in list(zip(optimizer.param_groups, rates, strict=True))[1:]:
            group["lr"] = rate * (1 + torch.cos(torch.tensor(torch.pi * step / iterations)).item()) / 2
        loss = error(step) / at_nearest
        beta = beta_at(step, iterations)
        if beta is not None:
            loss = loss + REGULARISER / count * sum(undecided(choice.share(), beta) for choice in choices)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
