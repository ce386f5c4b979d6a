"""How many channels each group keeps, and which: widths that are multiples, under a bound on multiply-accumulates."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.nets.count import count_macs
from edgekit.nets.model import Model
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


@dataclass(frozen=True)
class MacsModel:
    """Multiply-accumulates of a network as a function of what is cut.

    layers: for each layer its multiply-accumulates and, by side, its channels. A depthwise layer has side `out` only.
    fixed: those of layers that are never cut.
    """

    layers: dict[str, tuple[int, dict[str, int]]]
    fixed: int

    @classmethod
    def of(cls, model: Model) -> MacsModel:
        """Measured by running the network once at batch 1; the total is what `count_macs` says."""
        layers: dict[str, tuple[int, dict[str, int]]] = {}
        names = {layer: name for name, layer in model.network.named_modules()}

        def add(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Any) -> None:
            assert isinstance(layer, nn.Conv2d | nn.Linear)
            macs = output.numel() * layer.weight[0].numel()
            sides = {"out": layer.weight.shape[0]}
            if not isinstance(layer, nn.Conv2d) or layer.groups == 1:
                sides["in"] = layer.weight.shape[1]
            before, _ = layers.get(names[layer], (0, {}))
            layers[names[layer]] = (before + macs, sides)

        counted = [layer for layer in names if isinstance(layer, nn.Conv2d | nn.Linear)]
        handles = [layer.register_forward_hook(add) for layer in counted]
        try:
            with torch.no_grad():
                model.network(*model.example())
        finally:
            for handle in handles:
                handle.remove()
        return cls(layers, count_macs(model) - sum(macs for macs, _ in layers.values()))

    def total(self, groups: Sequence[ChannelGroup], removed: Mapping[str, Sequence[int]]) -> int:
        """Multiply-accumulates after the cut."""
        kept = {(name, side): count for name, (_, sides) in self.layers.items() for side, count in sides.items()}
        for group in groups:
            for member in group.members:
                if (member.layer, member.side) in kept:
                    cut = sum(len(member.channels[channel]) for channel in removed.get(group.root, ()))
                    kept[member.layer, member.side] -= cut
        total = self.fixed
        for name, (macs, sides) in self.layers.items():
            each = macs // math.prod(sides.values())
            total += each * math.prod(kept[name, side] for side in sides)
        return total


@dataclass(frozen=True)
class Choice:
    """Groups with the scores (width,) of their channels, and the widths that each can have."""

    groups: Sequence[ChannelGroup]
    scores: Mapping[str, Tensor]
    widths: Mapping[str, list[int]]

    def remove_ratio(self, ratio: float) -> Removed:
        """Every group alone: its lowest channels go until at most 1 - ratio is left, rounded up to a width."""
        removed = {}
        for group in self.groups:
            wanted = round(group.width * (1 - ratio), 9)
            width = min(width for width in self.widths[group.root] if width >= wanted)
            removed[group.root] = self._lowest(group, width)
        return removed

    def remove_evenly(self, macs: Callable[[Removed], int], bound: int) -> Removed:
        """The smallest common ratio that meets the bound, or the largest there is."""
        steps = {1 - width / group.width for group in self.groups for width in self.widths[group.root]}
        ratios = sorted(steps)
        found = bisect_left(ratios, True, key=lambda ratio: macs(self.remove_ratio(ratio)) <= bound)
        return self.remove_ratio(ratios[min(found, len(ratios) - 1)])

    def remove_globally(self, macs: Callable[[Removed], int], bound: int) -> Removed:
        """Over all groups: the step to a next width whose channels score lowest goes first, until the bound is met."""
        at = {group.root: 0 for group in self.groups}
        removed: Removed = {group.root: () for group in self.groups}
        queue = [step for index, group in enumerate(self.groups) if (step := self._step(index, group, 0)) is not None]
        heapq.heapify(queue)
        while queue and macs(removed) > bound:
            _, index = heapq.heappop(queue)
            group = self.groups[index]
            at[group.root] += 1
            removed[group.root] = self._lowest(group, self.widths[group.root][at[group.root]])
            step = self._step(index, group, at[group.root])
            if step is not None:
                heapq.heappush(queue, step)
        return removed

    def _step(self, index: int, group: ChannelGroup, at: int) -> tuple[float, int] | None:
        """Mean score of the channels that go from this width to the next, and the group's place."""
        widths = self.widths[group.root]
        if at + 1 == len(widths):
            return None
        lowest = self.scores[group.root].sort().values
        return lowest[group.width - widths[at] : group.width - widths[at + 1]].mean().item(), index

    def _lowest(self, group: ChannelGroup, width: int) -> tuple[int, ...]:
        order = self.scores[group.root].argsort(stable=True)
        return tuple(sorted(order[: group.width - width].tolist()))
