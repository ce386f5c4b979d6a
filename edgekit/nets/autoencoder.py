"""An autoencoder of linear layers: it rebuilds what is like its training samples, and fails on what is not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class Autoencoder(nn.Module):
    """(N, *shape) -> (N, *shape), through the widths of `layers` and back; the last of them is the bottleneck."""

    def __init__(self, shape: Sequence[int], layers: Sequence[int]) -> None:
        super().__init__()
        widths = [math.prod(shape), *layers]
        self.encode = nn.Sequential(nn.Flatten(), *_through(widths))
        self.decode = nn.Sequential(*_through(widths[::-1])[:-1])  # the last layer's values may be negative
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """The samples rebuilt."""
        rebuilt: Tensor = self.decode(self.encode(x))
        return rebuilt.reshape(-1, *self.shape)


def autoencoder(shape: Sequence[int] = (1, 8, 8), layers: Sequence[int] = (128, 64, 12)) -> Autoencoder:
    """The network of `recipes/anomaly-digits.yaml`: a smaller relative of MLPerf Tiny's for machine sounds.

    Args:
        shape: of one sample.
        layers: widths up to the bottleneck.

    Source: Banbury et al., MLPerf Tiny Benchmark, arXiv:2106.07597, section 3.3.
    """
    return Autoencoder(shape, layers)


def _through(widths: Sequence[int]) -> list[nn.Module]:
    return [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())]
