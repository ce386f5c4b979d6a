"""Learned rounding: a variable for each weight that moves it between the two grid points around it.

All of it is elementwise. What is learned from which data is for `passes/quantize/` to say.

Source: Nagel et al., Up or Down? Adaptive Rounding, arXiv:2004.10568, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.numerics.minifloat import neighbours as minifloat_neighbours
from edgekit.numerics.minifloat import round_to_minifloat
from edgekit.numerics.number import Integer, Minifloat

ZETA, GAMMA = 1.1, -0.1  # the sigmoid is stretched to [GAMMA, ZETA], so that 0 and 1 are reached at finite values
WARM_UP_RATIO = 0.2
FIRST_BETA, LAST_BETA = 20.0, 2.0


def rectified_sigmoid(variable: Tensor) -> Tensor:
    """h(V) in [0, 1]: the share of the upper grid point in the soft weight (eq. 23)."""
    return (torch.sigmoid(variable) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def variable_of(share: Tensor) -> Tensor:
    """The V of which h(V) = `share`, each in [0, 1]: learning starts at the float weight itself."""
    return -torch.log((ZETA - GAMMA) / (share - GAMMA) - 1)


def nearest_point(scaled: Tensor, number: Integer | Minifloat) -> Tensor:
    """The nearest point of a weight's grid for each value of `scaled`, which is weights / scale."""
    if isinstance(number, Minifloat):
        return round_to_minifloat(scaled, 1.0, number)
    return scaled.round().clamp(-number.qmax, number.qmax)


def neighbours(scaled: Tensor, number: Integer | Minifloat) -> tuple[Tensor, Tensor]:
    """The points of a weight's grid at or below, and at or above each value of `scaled`, which is weights / scale.

    A value on a point, or outside, has that point alone on both sides: rounding has no choice there. So zeros stay
    zeros, and a convolution of zeros and ones stays one.
    """
    if isinstance(number, Minifloat):
        lower, upper = minifloat_neighbours(scaled, 1.0, number)
        return lower, torch.where(lower == scaled, lower, upper)
    inside = scaled.clamp(-number.qmax, number.qmax)
    return inside.floor(), inside.ceil()


def share_of_upper(scaled: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Where each value lies between its neighbours: 0 at the lower, 1 at the upper, 0 where they are one."""
    width = (upper - lower).clamp_min(torch.finfo(scaled.dtype).tiny)
    return torch.where(upper > lower, (scaled - lower) / width, 0).clamp(0, 1)


def undecided(share: Tensor, beta: float) -> Tensor:
    """The regulariser: sum of 1 - |2 h - 1|^beta, 0 when every h is 0 or 1 (eq. 24)."""
    return (1 - (2 * share - 1).abs() ** beta).sum()


def beta_at(step: int, steps: int) -> float | None:
    """Exponent of the regulariser at `step` of `steps`: none in the warm-up, then falling in a line from 20 to 2.

    A large one leaves h free in the middle and decides what is near 0 or 1 already; a small one decides the rest.
    """
    warm_up = WARM_UP_RATIO * steps
    if step < warm_up:
        return None
    return FIRST_BETA + (LAST_BETA - FIRST_BETA) * (step - warm_up) / max(steps - warm_up, 1)
