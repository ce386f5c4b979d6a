"""Which channels of a program must be scaled by one and the same factor: classes of channels, joined pair by pair."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

ZERO = -1  # the class of what is zero whatever the scale, such as a padded border


def members(classes: Tensor) -> list[int]:
    """The distinct classes of a tensor, ascending, without ZERO."""
    return [one for one in np.unique(classes.numpy()).tolist() if one != ZERO]


class Channels:
    """Disjoint sets of channels. A class is an integer; an activation is a tensor of classes, one an element.

    What is blocked keeps the scale 1, with the reason.
    """

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}

    def new(self, count: int) -> Tensor:
        """(count,) fresh classes."""
        first = len(self._parents)
        self._parents += range(first, first + count)
        return torch.arange(first, first + count)

    def join(self, first: Tensor, second: Tensor) -> Tensor:
        """Make the classes of two tensors of one shape the same, element by element; what is zero joins nothing."""
        differ = (first != second) & (first != ZERO) & (second != ZERO)
        if bool(differ.any()):
            for a, b in np.unique(torch.stack((first[differ], second[differ]), 1).numpy(), axis=0).tolist():
                self._unite(a, b)
        return torch.where(first == ZERO, second, first)

    def along(self, classes: Tensor, axes: Iterable[int]) -> Tensor:
        """`classes` reduced to `axes`, in their order: everything else that lies along an index has one class.

        An index that is zero everywhere is ZERO.
        """
        kept = [axis % classes.dim() for axis in axes]
        rest = [axis for axis in range(classes.dim()) if axis not in kept]
        shape = [classes.shape[axis] for axis in kept]
        lines = classes.permute(*kept, *rest).reshape(*shape, -1)
        reduced = lines.amax(-1)
        self.join(lines, reduced.unsqueeze(-1).expand_as(lines))
        return reduced

    def block(self, classes: Tensor, reason: str) -> None:
        """Keep the scale of these classes at 1. The first reason stays."""
        for one in members(classes):
            self._reasons.setdefault(self._root(one), reason)

    def roots(self) -> Tensor:
        """(number of classes + 1,) the class that stands for each; the last entry is for ZERO."""
        return torch.tensor([*(self._root(one) for one in range(len(self._parents))), ZERO])

    def reason(self, one: int) -> str | None:
        """Why a class is blocked; None where it is not."""
        return self._reasons.get(self._root(one))

    def all_blocked(self, classes: Tensor) -> bool:
        """Whether nothing in `classes` may be scaled."""
        return all(self.reason(one) is not None for one in members(classes))

    def _root(self, one: int) -> int:
        while self._parents[one] != one:
            self._parents[one] = self._parents[self._parents[one]]
            one = self._parents[one]
        return one

    def _unite(self, a: int, b: int) -> None:
        a, b = sorted((self._root(a), self._root(b)))
        if a == b:
            return
        self._parents[b] = a
        if b in self._reasons:
            self._reasons.setdefault(a, self._reasons.pop(b))
