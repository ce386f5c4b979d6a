"""Activation-aware weight quantisation: factors on the inputs of a weight that is to be rounded in groups."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.numerics.quantise import channel_scales
from edgekit.numerics.scales import group_scales

RATIOS = tuple(step / 20 for step in range(20))
_SMALLEST_FACTOR = 1e-4


def awq_factors(mean_magnitude: Tensor, ratio: float) -> Tensor:
    """What the weights that read each input are multiplied by before they are rounded: (C,) float64.

    An input with large values gets a large factor, so its weights use more of their grid. The factors are divided by
    the root of their largest times their smallest, which keeps the weights as a whole where they are.

    Args:
        mean_magnitude: (C,) mean of |x| of each input.
        ratio: 0 changes nothing.

    Source: Lin et al., AWQ, arXiv:2306.00978, eq. 4 and 5, and its code for the normalisation.
    """
    factors = mean_magnitude.double().clamp_min(_SMALLEST_FACTOR).pow(ratio).clamp_min(_SMALLEST_FACTOR)
    return factors / (factors.max() * factors.min()).sqrt()


def rounded_in_groups(weight: Tensor, group: int | None, qmax: int) -> Tensor:
    """`weight` as its symmetric codes say, rounded to nearest; shaped like it.

    Args:
        weight: (C_out, ...).
        group: inputs, flattened behind axis 0, that share a scale; none: all of an output.
        qmax: largest code; the smallest is -qmax.
    """
    flat = weight.flatten(1)
    if group is None:
        spread = channel_scales(weight, 0, qmax)[:, None]
    else:
        spread = group_scales(weight, group, qmax).repeat_interleave(group, 1)[:, : flat.shape[1]]
    spread = spread.to(weight.dtype)
    codes = (flat / spread).round().clamp(-qmax, qmax)
    return (codes * spread).reshape(weight.shape)


def class_means(values: Tensor, classes: Tensor, count: int) -> Tensor:
    """Mean magnitude of each class of elements, (count,) float64; 0 for a class that has none.

    Args:
        classes: shaped like `values`, in [0, count); elements of a negative class are left out.
    """
    places = torch.where(classes < 0, count, classes).flatten()
    magnitudes = values.detach().double().abs().flatten()
    sums = torch.zeros(count + 1, dtype=torch.float64).scatter_add_(0, places, magnitudes)
    numbers = torch.zeros(count + 1, dtype=torch.float64).scatter_add_(0, places, torch.ones_like(magnitudes))
    return (sums / numbers.clamp_min(1))[:count]
