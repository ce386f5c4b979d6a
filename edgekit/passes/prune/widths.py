"""How many channels a group may keep, and which ones it keeps then."""

from __future__ import annotations

import math

from torch import Tensor

from edgekit.passes.prune.group import ChannelGroup

Removed = dict[str, tuple[int, ...]]
"""Channels to cut from each group, by the group's root, ascending."""


def achievable_widths(width: int, multiple: int, min_keep_ratio: float) -> list[int]:
    """What a group of `width` channels can have, falling from `width` itself: then multiples of `multiple`, at least
    one, that keep `min_keep_ratio` of the channels.
    """
    least = max(1, math.ceil(round(min_keep_ratio * width, 9) / multiple)) * multiple
    below = (width - 1) // multiple * multiple
    return [width, *range(below, least - 1, -multiple)]


def group_widths(group: ChannelGroup, multiple: int, min_keep_ratio: float) -> list[int]:
    """The same for a group. A head of 12 channels fills a multiple of 8 by twos, one of 16 alone."""
    return achievable_widths(group.width, multiple // math.gcd(multiple, group.unit_size), min_keep_ratio)


def lowest(scores: Tensor, width: int) -> tuple[int, ...]:
    """The channels that go when `width` stay: those of the lowest scores (C,), ascending."""
    order = scores.argsort(stable=True)
    return tuple(sorted(order[: len(scores) - width].tolist()))
