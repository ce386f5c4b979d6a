"""Factors that make the ranges on both sides of a channel equal. Which channels have one: `passes/equalise/`."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_RANGE = 1e-9  # a channel with less on either side keeps its scale: it is dead, and its scale says nothing


def class_maxima(values: Tensor, classes: Tensor, count: int) -> Tensor:
    """Largest magnitude of each class of elements, (count,); 0 for a class that has none.

    Args:
        classes: shaped like `values`, in [0, count); elements of a negative class are left out.
    """
    maxima = torch.zeros(count + 1, dtype=values.dtype)
    places = torch.where(classes < 0, count, classes).flatten()
    return maxima.scatter_reduce_(0, places, values.detach().abs().flatten(), "amax")[:count]


def equalising_factors(made: Tensor, read: Tensor, alpha: float = 0.5) -> Tensor:
    """What each channel is to be multiplied by: read^(1 - alpha) / made^alpha.

    With alpha 0.5 and ranges of weights on both sides, both become sqrt(made * read): the channel is multiplied by the
    factor where it is made, the weights that read it are divided by it. With the range of the activation as `made`
    this is SmoothQuant's migration, with the alpha of its paper.

    Args:
        made: (C,) range of what makes the channel, or of the channel itself.
        read: (C,) range of the weights that read it.

    Returns:
        (C,); 1 where either range is at most 1e-9.

    Source: Nagel et al., Data-Free Quantization, arXiv:1906.04721, eq. 11, whose s is 1 / factor; Xiao et al.,
    SmoothQuant, arXiv:2211.10438, eq. 4, whose s is 1 / factor too.
    """
    alive = (made > SMALLEST_RANGE) & (read > SMALLEST_RANGE)
    factors = read.clamp_min(SMALLEST_RANGE) ** (1 - alpha) / made.clamp_min(SMALLEST_RANGE) ** alpha
    return torch.where(alive, factors, torch.ones_like(factors))
