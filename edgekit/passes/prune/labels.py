"""Labels of channels: which indices of which axes of tensors are one channel. Operators are in `flow.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ids: TypeAlias = NDArray[np.int64]


class Channels:
    """Labels, of which any may turn out to be the same channel, and channels that must stay, with the reason."""

    def __init__(self) -> None:
        self._parent = np.zeros(0, np.int64)
        self._reasons: dict[int, str] = {}

    def new(self, count: int) -> Ids:
        """Labels (count,) that are channels of their own so far."""
        first = len(self._parent)
        made = np.arange(first, first + count)
        self._parent = np.concatenate([self._parent, made])
        return made

    def find(self, ids: Ids) -> Ids:
        """One number for each channel."""
        found = self._parent[ids]
        while not np.array_equal(above := self._parent[found], found):
            found = above
        self._parent[ids] = found
        return found

    def join(self, first: Ids, second: Ids) -> None:
        """Labels at the same place, the two broadcast against each other, are one channel."""
        a, b = np.broadcast_arrays(self.find(first), self.find(second))
        differ = a != b
        if differ.any():
            for one, other in np.unique(np.stack([a[differ], b[differ]], 1), axis=0):
                self._join(int(one), int(other))

    def join_along(self, ids: Ids, axis: int) -> None:
        """Labels along an axis are one channel."""
        self.join(ids, np.take(ids, [0], axis))

    def freeze(self, ids: Ids, reason: str) -> None:
        """These channels stay. The first reason counts."""
        for one in np.unique(self.find(ids)):
            self._reasons.setdefault(int(one), reason)

    def reason(self, channel: int) -> str | None:
        """Why a channel, of `find`, must stay."""
        return self._reasons.get(channel)

    def _join(self, one: int, other: int) -> None:
        one, other = self._root(one), self._root(other)
        if one == other:
            return
        self._parent[other] = one
        reason = self._reasons.pop(other, None)
        if reason is not None:
            self._reasons.setdefault(one, reason)

    def _root(self, one: int) -> int:
        while (above := int(self._parent[one])) != one:
            one = above
        return one


@dataclass(frozen=True)
class Part:
    """Labels of one axis, or of several that were one axis before a reshape. `ids` has the sizes of `axes`, ascending.

    A part over several axes can only be cut where its channels turn out to run along one of them.
    """

    axes: tuple[int, ...]
    ids: Ids


@dataclass(frozen=True)
class Labels:
    """Labels of a tensor. An axis in no part has no channels that could be cut: batch, time, height."""

    shape: tuple[int, ...]
    parts: tuple[Part, ...] = ()

    def part(self, axis: int) -> Part | None:
        """The part that an axis is in."""
        return next((part for part in self.parts if axis in part.axes), None)

    def without(self, axes: Sequence[int]) -> tuple[Part, ...]:
        """Parts that none of these axes is in."""
        return tuple(part for part in self.parts if not set(part.axes) & set(axes))


def simplified(labels: Labels, channels: Channels) -> Labels:
    """The same, without axes along which every channel is the same: nothing is cut along those."""
    parts = []
    for part in labels.parts:
        ids, axes = channels.find(part.ids), list(part.axes)
        for position in reversed(range(len(axes))):
            first = np.take(ids, [0], position)
            if (ids == first).all():
                ids = first.squeeze(position)
                del axes[position]
        if axes:
            parts.append(Part(tuple(axes), ids))
    return Labels(labels.shape, tuple(parts))


def permuted(labels: Labels, order: Sequence[int]) -> Labels:
    """Axes in another order, as `torch.permute` takes it."""
    place = {old: new for new, old in enumerate(order)}
    return Labels(tuple(labels.shape[axis] for axis in order), tuple(_moved(part, place) for part in labels.parts))


def _moved(part: Part, place: dict[int, int]) -> Part:
    new = [place[axis] for axis in part.axes]
    order = sorted(range(len(new)), key=new.__getitem__)
    return Part(tuple(new[i] for i in order), part.ids.transpose(order))


def taken(labels: Labels, axis: int, indices: slice | Ids) -> Labels:
    """Some indices of an axis."""
    places = np.arange(labels.shape[axis])[indices]
    parts = []
    for part in labels.parts:
        if axis in part.axes:
            parts.append(Part(part.axes, part.ids.take(places, part.axes.index(axis))))
        else:
            parts.append(part)
    return Labels((*labels.shape[:axis], len(places), *labels.shape[axis + 1 :]), tuple(parts))


def dropped(labels: Labels, axis: int) -> Labels:
    """Without an axis of size one."""
    parts = []
    for part in labels.parts:
        if axis in part.axes:
            position = part.axes.index(axis)
            part = Part(part.axes[:position] + part.axes[position + 1 :], np.take(part.ids, 0, position))
        if part.axes:
            parts.append(Part(tuple(a - (a > axis) for a in part.axes), part.ids))
    return Labels(labels.shape[:axis] + labels.shape[axis + 1 :], tuple(parts))


def inserted(labels: Labels, axis: int) -> Labels:
    """With a new axis of size one."""
    shape = (*labels.shape[:axis], 1, *labels.shape[axis:])
    return Labels(shape, tuple(Part(tuple(a + (a >= axis) for a in part.axes), part.ids) for part in labels.parts))


def reshaped(labels: Labels, shape: Sequence[int], channels: Channels) -> Labels:
    """As `torch.reshape`: an axis that is divided has a part over the axes that it became."""
    blocks = _blocks(labels.shape, shape)
    parts: list[Part] = []
    used: set[int] = set()
    ordered = sorted(simplified(labels, channels).parts, key=lambda part: _frozen(part, channels))
    for part in ordered:
        touched = [i for i, (old, _) in enumerate(blocks) if set(old) & set(part.axes)]
        if used & set(touched):
            channels.freeze(part.ids, "a reshape mixes them with other channels")
            continue
        used.update(touched)
        old = [axis for i in touched for axis in blocks[i][0]]
        new = [axis for i in touched for axis in blocks[i][1]]
        spread = part.ids.reshape([labels.shape[axis] if axis in part.axes else 1 for axis in old])
        full = np.broadcast_to(spread, [labels.shape[axis] for axis in old])
        parts.append(Part(tuple(new), full.reshape([shape[axis] for axis in new])))
    return simplified(Labels(tuple(shape), tuple(parts)), channels)


def _frozen(part: Part, channels: Channels) -> bool:
    return all(channels.reason(int(one)) is not None for one in np.unique(channels.find(part.ids)))


def _blocks(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Runs of axes that hold the same numbers before and after, as short as can be."""
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        own, other, a, b = [i], [j], old[i], new[j]
        while a != b:
            if a < b:
                i += 1
                own.append(i)
                a *= old[i]
            else:
                j += 1
                other.append(j)
                b *= new[j]
        blocks.append((own, other))
        i, j = i + 1, j + 1
    rest = (list(range(i, len(old))), list(range(j, len(new))))  # axes of size one
    if not blocks:
        return [rest]
    blocks[-1][0].extend(rest[0])
    blocks[-1][1].extend(rest[1])
    return blocks
