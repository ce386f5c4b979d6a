"""Multiply-accumulates of a network whose channels are there in part, as a number that gradients go through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.nets.count import count_macs
from edgekit.nets.model import Model
from edgekit.passes.prune.autobot.counts import Axis, kept_counts
from edgekit.passes.prune.group import ChannelGroup

_COUNTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True)
class GatedMacs:
    """Multiply-accumulates, as `count_macs` counts them.

    A layer's are a product of the two first axes of its weight, so sums of gates take the places of counts:
    sum(l_out) * sum(l_in) * k^2 * H_out * W_out for a convolution, without the second factor for a depthwise one, whose
    gates are those of its input. With every gate at one that is `count_macs` to the unit, and with gates at zero and
    one that of the network after the cut. The published code counts norms and poolings too, which are no
    multiply-accumulates here.

    Attributes:
        whole: length of each axis.
        each: of each layer, its multiply-accumulates for one of both axes.
        fixed: those of layers that are not among these.

    Source: Castells and Yeom, AutoBot, arXiv:2111.09635, and its code.
    """

    groups: Sequence[ChannelGroup]
    whole: Mapping[Axis, int]
    each: Mapping[str, int]
    fixed: int

    @classmethod
    def of(cls, model: Model, groups: Sequence[ChannelGroup]) -> GatedMacs:
        """Measured by running the network once at batch 1."""
        whole: dict[Axis, int] = {}
        each: dict[str, int] = {}
        names = {layer: name for name, layer in model.network.named_modules()}

        def add(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Any) -> None:
            name, weight = names[layer], layer.weight
            assert isinstance(weight, Tensor)
            whole[name, 0], whole[name, 1] = weight.shape[:2]
            each[name] = each.get(name, 0) + output.numel() // weight.shape[0] * weight[0, 0].numel()

        handles = [layer.register_forward_hook(add) for layer in names if isinstance(layer, _COUNTED)]
        try:
            with torch.no_grad():
                model.network(*model.example())
        finally:
            for handle in handles:
                handle.remove()
        counted = sum(macs * whole[name, 0] * whole[name, 1] for name, macs in each.items())
        return cls(groups, whole, each, count_macs(model) - counted)

    def total(self, kept: Mapping[str, Any]) -> Any:
        """See `Cost`."""
        counts = kept_counts(self.groups, self.whole, kept)
        total: Any = self.fixed
        for name, macs in self.each.items():
            total = total + macs * counts[name, 0] * counts[name, 1]
        return total
