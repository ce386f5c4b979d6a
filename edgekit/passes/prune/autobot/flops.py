"""Multiply-accumulates of a network whose channels are there in part, as a number that gradients go through."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edgekit.nets.model import Model
from edgekit.passes.prune.group import ChannelGroup
from edgekit.passes.prune.widths import MacsModel


class Cost(Protocol):
    """What a network costs as a function of its widths."""

    def total(self, kept: Mapping[str, Any]) -> Any:
        """The cost with `kept[root]` channels in each group, whole in those not named.

        Counts may be integers, or tensors () through which gradients go; the cost is of their kind.
        """


@dataclass(frozen=True)
class GatedMacs:
    """Multiply-accumulates, as `count_macs` counts them.

    A layer's are a product of the channels that it makes and reads, so a sum of gates takes a count's place:
    sum(l_out) * sum(l_in) * k^2 * H_out * W_out for a convolution, without the second factor for a depthwise one, whose
    gates are those of its input. With every gate at one that is `count_macs` to the unit, and with gates at zero and
    one that of the network after the cut. The published code counts norms and poolings too, which are no
    multiply-accumulates here.

    Source: Castells and Yeom, AutoBot, arXiv:2111.09635, and its code.
    """

    groups: Sequence[ChannelGroup]
    macs: MacsModel

    @classmethod
    def of(cls, model: Model, groups: Sequence[ChannelGroup]) -> GatedMacs:
        """Measured by running the network once at batch 1."""
        return cls(groups, MacsModel.of(model))

    def total(self, kept: Mapping[str, Any]) -> Any:
        """See `Cost`."""
        counts: dict[tuple[str, str], Any] = {
            (name, side): count for name, (_, sides) in self.macs.layers.items() for side, count in sides.items()
        }
        for group in self.groups:
            if group.root in kept:
                gone = group.width - kept[group.root]
                for member in group.members:
                    if (member.layer, member.side) in counts:
                        counts[member.layer, member.side] -= len(member.channels[0]) * gone
        total: Any = self.macs.fixed
        for name, (macs, sides) in self.macs.layers.items():
            each = macs // math.prod(sides.values())
            total = total + each * math.prod(counts[name, side] for side in sides)
        return total
