"""Multiply-accumulates of a network whose channels are there in part, as a number that gradients go through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.nets.count import count_macs
from edgekit.nets.edits import apply_edits
from edgekit.nets.model import Model
from edgekit.passes.prune.autobot.counts import Axis, kept_counts
from edgekit.passes.prune.cut import keep_edits
from edgekit.passes.prune.group import ChannelGroup

_SPREADING = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)  # every input meets every kernel
_COUNTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, *_SPREADING)


@dataclass(frozen=True)
class GatedMacs:
    """Multiply-accumulates, as `count_macs` counts them.

    A layer's are a product of the two first axes of its weight, so sums of gates take the places of counts:
    sum(l_out) * sum(l_in) * k^2 * H_out * W_out for a convolution, without the second factor for a depthwise one, whose
    gates are those of its input. What is left, as the products of attention, is linear in each group's channels, its
    heads. With every gate at one that is `count_macs` to the unit, and with gates at zero and
    one that of the network after the cut. The published code counts norms and poolings too, which are no
    multiply-accumulates here.

    Attributes:
        whole: length of each axis.
        each: of each layer, its multiply-accumulates for one of both axes.
        rest: those of everything else.
        slopes: by how much the rest falls with a channel of a group; 0 of groups that are not named.

    Source: Castells and Yeom, AutoBot, arXiv:2111.09635, and its code.
    """

    groups: Sequence[ChannelGroup]
    whole: Mapping[Axis, int]
    each: Mapping[str, int]
    rest: int
    slopes: Mapping[str, int]

    @classmethod
    def of(cls, model: Model, groups: Sequence[ChannelGroup]) -> GatedMacs:
        """Measured by running the network once at batch 1."""
        whole: dict[Axis, int] = {}
        each: dict[str, int] = {}
        names = {layer: name for name, layer in model.network.named_modules()}

        def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            name, weight = names[layer], layer.weight
            assert isinstance(weight, Tensor)
            whole[name, 0], whole[name, 1] = weight.shape[:2]
            spread = inputs[0] if isinstance(layer, _SPREADING) else output
            each[name] = each.get(name, 0) + spread.numel() // weight.shape[0] * weight[0, 0].numel()

        handles = [layer.register_forward_hook(add) for layer in names if isinstance(layer, _COUNTED)]
        try:
            with torch.no_grad():
                model.network(*model.example())
        finally:
            for handle in handles:
                handle.remove()
        layers = cls(groups, whole, each, 0, {})
        counted = count_macs(model)
        rest, slopes = counted - layers.total({}), {}
        for group in groups if rest else ():
            edits = keep_edits(model, [group], {group.root: (0,)})
            fewer = count_macs(model.with_(apply_edits(model.network, edits), "prune", edits))
            slope = rest - (fewer - layers.total({group.root: group.width - 1}))
            if slope:
                slopes[group.root] = slope
        return cls(groups, whole, each, rest, slopes)

    def total(self, kept: Mapping[str, Any]) -> Any:
        """See `Cost`."""
        counts = kept_counts(self.groups, self.whole, kept)
        gone = {group.root: group.width - kept[group.root] for group in self.groups if group.root in kept}
        total: Any = self.rest - sum(slope * gone[root] for root, slope in self.slopes.items() if root in gone)
        for name, macs in self.each.items():
            total = total + macs * counts[name, 0] * counts[name, 1]
        return total
