"""How many channels layers have when groups keep their channels in part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from edgekit.passes.prune.group import ChannelGroup

Axis = tuple[str, int]
"""A layer's name and an axis of its weight; or a tensor's, where a group names that."""


class Cost(Protocol):
    """What a network costs as a function of its widths."""

    def total(self, kept: Mapping[str, Any]) -> Any:
        """The cost with `kept[root]` channels in each group, whole in those not named.

        Counts may be numbers, or tensors () through which gradients go; the cost is of their kind.
        """


def kept_counts(groups: Sequence[ChannelGroup], whole: Mapping[Axis, int], kept: Mapping[str, Any]) -> dict[Axis, Any]:
    """How long the axes are, `whole` where nothing is cut, when groups keep as many channels as `kept` says."""
    counts: dict[Axis, Any] = dict(whole)
    for group in groups:
        if group.root in kept:
            gone = group.width - kept[group.root]
            for member in group.members:
                if (member.layer, member.axis) in counts:
                    counts[member.layer, member.axis] -= len(member.channels[0]) * gone
    return counts
