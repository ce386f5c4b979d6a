"""From trained gates to widths: one threshold for all of them, so that the budget is met."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from edgekit.passes.prune.autobot.counts import Cost
from edgekit.passes.prune.widths import Removed


def choose_channels(
    logits: Mapping[str, Tensor], widths: Mapping[str, Sequence[int]], cost: Cost, bound: float
) -> Removed:
    """Channels to cut from each group: those whose gates are at or below one threshold over all groups.

    Each group has the nearest width that it can have to the number of its gates above the threshold, the wider of two
    as near, and keeps its highest gates. The threshold is the lowest that meets the bound. What is then left of the
    budget goes to the groups with the highest gates among those cut whose next width still fits. Where the bound
    cannot be met, every group has its smallest width.

    The published code halves an interval of thresholds up to 50 times, and stops within 50,000 operations above or
    below the target. We halve the sorted list of all gates, which ends at the crossing itself in fewer trials, tells
    gates apart that the sigmoid rounds to 1, and never ends above the bound. A group always keeps a channel, since no
    width is zero; there, the published code keeps the highest gate.

    Args:
        logits: (width,) of each group; a gate is sigmoid(logit), in the same order.
        widths: what each group can have, falling.
    """
    thresholds = sorted({-float("inf"), *torch.cat(list(logits.values())).tolist()})

    def kept_above(threshold: float) -> dict[str, int]:
        return {root: _nearest(widths[root], int((own > threshold).sum())) for root, own in logits.items()}

    def fits(kept: Mapping[str, int]) -> bool:
        return bool(cost.total(kept) <= bound)

    found = bisect_left(thresholds, True, key=lambda threshold: fits(kept_above(threshold)))
    kept = kept_above(thresholds[min(found, len(thresholds) - 1)])
    ranked = {root: own.sort(descending=True, stable=True) for root, own in logits.items()}
    while (root := _widened(kept, widths, {root: own.values for root, own in ranked.items()}, fits)) is not None:
        kept[root] = _next(widths[root], kept[root])
    return {root: tuple(sorted(own.indices[kept[root] :].tolist())) for root, own in ranked.items()}


def _nearest(widths: Sequence[int], count: int) -> int:
    return min(widths, key=lambda width: (abs(width - count), -width))


def _next(widths: Sequence[int], width: int) -> int:
    return min(wider for wider in widths if wider > width)


def _widened(
    kept: Mapping[str, int],
    widths: Mapping[str, Sequence[int]],
    ranked: Mapping[str, Tensor],
    fits: Callable[[Mapping[str, int]], bool],
) -> str | None:
    """The group with the highest mean gate among the channels of its next width that fits, if any does."""
    steps = []
    for root, width in kept.items():
        if width < widths[root][0]:
            steps.append((ranked[root][width : _next(widths[root], width)].mean().item(), root))
    for _, root in sorted(steps, reverse=True):
        if fits({**kept, root: _next(widths[root], kept[root])}):
            return root
    return None
