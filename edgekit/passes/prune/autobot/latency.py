"""Milliseconds of a network whose channels are there in part: measured layers, and straight lines between them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.nets.edits import Keep, apply_edits
from edgekit.passes.prune.autobot.counts import Axis, kept_counts
from edgekit.passes.prune.group import ChannelGroup

LayerMs = Callable[[nn.Module, Tensor], float]
"""What a layer takes on an input (1, ...)."""

_POINTS = 3  # widths of a side that are measured: a layer with two sides is measured nine times
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class _Table:
    """ms of one layer: `ms` has an axis for each of `axes`, at the numbers of channels in `points`, rising."""

    axes: tuple[Axis, ...]
    points: tuple[tuple[int, ...], ...]
    ms: Tensor


@dataclass(frozen=True)
class GatedLatency:
    """The sum over layers of what each takes with its share of channels, in ms.

    Between the widths that were measured a layer's time is a bilinear function of sum(l_out) and sum(l_in); outside of
    them it goes on along the last piece. Measured are widths that the groups can have, so what a kernel loses at a
    width off its blocks is in no table.

    Attributes:
        whole: length of each axis.
        fixed: ms of the layers that are never cut.
    """

    groups: Sequence[ChannelGroup]
    whole: Mapping[Axis, int]
    tables: Sequence[_Table]
    fixed: float

    @classmethod
    def measured(
        cls,
        network: nn.Module,
        layers: Sequence[tuple[nn.Module, Tensor]],
        groups: Sequence[ChannelGroup],
        widths: Mapping[str, Sequence[int]],
        layer_ms: LayerMs,
        progress: Callable[[int, int, str], None],
    ) -> GatedLatency:
        """Measure the layers, each at the largest, the smallest and a middle width of each side.

        Args:
            layers: of `network`, in the order of their calls, with the input (1, ...) of each call.
            widths: what each group can have, falling.
        """
        names = {layer: name for name, layer in network.named_modules()}
        whole = {axis: count for layer, _ in layers for axis, count in _axes(names[layer], layer)}
        kept = [
            {root: own[round(place * (len(own) - 1) / (_POINTS - 1))] for root, own in widths.items()}
            for place in range(_POINTS)
        ]
        counts = [kept_counts(groups, whole, each) for each in kept]
        points = {axis: tuple(sorted({each[axis] for each in counts})) for axis in whole}
        tables, fixed = [], 0.0
        for done, (layer, given) in enumerate(layers):
            progress(done, len(layers), f"measuring {names[layer]}")
            axes = [axis for axis, _ in _axes(names[layer], layer) if len(points[axis]) > 1]
            if not axes:
                fixed += layer_ms(layer, given)
                continue
            grid = [points[axis] for axis in axes]
            times = [
                layer_ms(*_cut(layer, given, {axis: count for (_, axis), count in zip(axes, place, strict=True)}))
                for place in product(*grid)
            ]
            ms = torch.tensor(times, dtype=torch.float64).reshape([len(each) for each in grid])
            tables.append(_Table(tuple(axes), tuple(grid), ms))
        return cls(groups, whole, tables, fixed)

    def total(self, kept: Mapping[str, Any]) -> Any:
        """See `Cost`."""
        counts = kept_counts(self.groups, self.whole, kept)
        total: Any = self.fixed
        for table in self.tables:
            total = total + interpolate(table.points, table.ms, [counts[axis] for axis in table.axes])
        return total


def interpolate(points: Sequence[Sequence[int]], values: Tensor, at: Sequence[Any]) -> Any:
    """The multilinear function through `values`, which has an axis for each of `points`, of the numbers `at`.

    Gradients go through `at` where it holds tensors (). Each of `points` rises and has at least two places.
    """
    if not points:
        return values.item()
    axis, count = points[0], at[0]
    place = bisect_right(axis, count.item() if isinstance(count, Tensor) else count) - 1
    place = min(max(place, 0), len(axis) - 2)
    low, high = (interpolate(points[1:], values[end], at[1:]) for end in (place, place + 1))
    return low + (high - low) * ((count - axis[place]) / (axis[place + 1] - axis[place]))


def _axes(name: str, layer: nn.Module) -> Iterator[tuple[Axis, int]]:
    """The axes of a layer's weight that can be cut, and how long each is; of a depthwise one, the first alone."""
    if isinstance(layer, nn.Linear) or (isinstance(layer, _CONVOLUTIONS) and layer.groups == 1):
        yield (name, 0), layer.weight.shape[0]
        yield (name, 1), layer.weight.shape[1]
    elif isinstance(layer, _CONVOLUTIONS) and layer.groups == layer.in_channels == layer.out_channels:
        yield (name, 0), layer.weight.shape[0]


def _cut(layer: nn.Module, given: Tensor, lengths: Mapping[int, int]) -> tuple[nn.Module, Tensor]:
    """The layer with these lengths of its weight's axes, whichever channels that takes, and an input for it."""
    edits = [
        Keep.model_validate({"layer": "0", "side": "in" if axis else "out", "indices": range(length)})
        for axis, length in lengths.items()
    ]
    (smaller,) = apply_edits(nn.Sequential(layer), edits).children()
    read = smaller.in_features if isinstance(smaller, nn.Linear) else smaller.in_channels
    assert isinstance(read, int)
    return smaller, given.narrow(-1 if isinstance(smaller, nn.Linear) else 1, 0, read)
