"""Rearrangements: what a chain of reshapes, transposes and slices does to the elements of a tensor, in fewest words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rearrangement:
    """Read a tensor as `split`, put its axes in `order`: then the elements stand as wanted, up to a reshape."""

    split: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def is_reshape(self) -> bool:
        """Whether no element changes its place."""
        return self.order == tuple(range(len(self.order)))


def find_rearrangement(index: Tensor) -> Rearrangement | None:
    """How a tensor was made from another by moving all of its elements; None if no split and order of axes say it.

    Args:
        index: int64; where each element stood in the flat source: 0 .. n - 1, each once, in the shape made of them.
    """
    rest = index.reshape(-1)
    digits: list[tuple[int, int]] = []  # size and stride of the result's axes, the last axis first
    while len(rest) > 1:
        steps = rest[1:] - rest[:-1]
        stride = int(steps[0])
        breaks = (steps != stride).nonzero()
        size = int(breaks[0]) + 1 if len(breaks) else len(rest)
        if stride <= 0 or len(rest) % size or (steps[_inside(len(rest), size)] != stride).any():
            return None
        digits.append((size, stride))
        rest = rest[::size]
    if len(rest) == 0 or int(rest[0]) != 0:
        return None
    digits.reverse()
    by_stride = sorted(range(len(digits)), key=lambda axis: -digits[axis][1])
    split = tuple(digits[axis][0] for axis in by_stride)
    if any(digits[axis][1] != math.prod(split[place + 1 :]) for place, axis in enumerate(by_stride)):
        return None  # elements are missing or doubled
    return Rearrangement(split, tuple(by_stride.index(axis) for axis in range(len(digits))))


def find_columns(index: Tensor, rows: int, columns: int) -> tuple[int, int] | None:
    """First and end of the run of columns that a tensor takes, whole, from a matrix; None if it takes anything else.

    Args:
        index: where each element stood in the flat matrix of `rows` and `columns`.
    """
    flat = index.reshape(-1)
    column = flat % columns
    first, end = int(column.min()), int(column.max()) + 1
    different = bool((flat.sort().values.diff() > 0).all())
    whole = different and flat.numel() == rows * (end - first)
    return (first, end) if whole else None


def _inside(count: int, size: int) -> Tensor:
    """Places of the steps that do not lead from one run of `size` to the next."""
    steps = torch.arange(count - 1)
    return steps[steps % size != size - 1]
