"""Method ranking: channels go in the order of their scores, until the budget is met."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator

from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.passes.prune.candidates import Candidates, Cuts
from edgekit.passes.prune.cost import bound_of, exact_cost
from edgekit.schema.prune import PruneBudget, PruneOptions

Kept = dict[str, int]


def rank(model: Model, options: PruneOptions, context: Context, candidates: Candidates) -> Cuts:
    """Cut each group by `channel_ratio`; or go along the ranking, over all groups or with one ratio for each, to the
    first network whose cost, of the network as cut, is within the budget.

    Raises:
        PassError: the budget cannot be met, or nothing measures it.
    """
    if not candidates.groups:
        return Cuts({})
    if options.channel_ratio is not None:
        return Cuts(candidates.removed(even(candidates, options.channel_ratio)))
    assert options.budget is not None
    path = list(along_scores(candidates) if options.global_ranking else along_ratios(candidates))
    cost = exact_cost(options.budget, context)

    def costs(kept: Kept) -> float:
        return cost(candidates.cut(Cuts(candidates.removed(kept))))

    whole = cost(model)
    bound = bound_of(options.budget, whole)
    found = bisect_left(path, True, key=lambda kept: costs(kept) <= bound)
    if found == len(path):
        raise out_of_reach(options.budget, costs(path[-1]), whole)
    return Cuts(candidates.removed(path[found]))


def even(candidates: Candidates, ratio: float) -> Kept:
    """Every group alone: its lowest channels go until at most 1 - ratio is left, rounded up to a width."""
    wanted = {group.root: round(group.width * (1 - ratio), 9) for group in candidates.groups}
    return {root: min(width for width in candidates.widths[root] if width >= least) for root, least in wanted.items()}


def along_ratios(candidates: Candidates) -> Iterator[Kept]:
    """One ratio for every group, rising through all that make a difference."""
    ratios = {1 - width / group.width for group in candidates.groups for width in candidates.widths[group.root]}
    yield from (even(candidates, ratio) for ratio in sorted(ratios))


def along_scores(candidates: Candidates) -> Iterator[Kept]:
    """Over all groups: the step to a next width whose channels have the lowest mean score goes first."""
    kept = {group.root: group.width for group in candidates.groups}
    yield dict(kept)
    places = {root: place for place, root in enumerate(kept)}  # of two equal scores, the earlier group's goes first
    queue = [(score, places[root], at, root) for root in kept for score, at in _step(candidates, root, 0)]
    heapq.heapify(queue)
    while queue:
        _, place, at, root = heapq.heappop(queue)
        kept[root] = candidates.widths[root][at]
        yield dict(kept)
        for score, following in _step(candidates, root, at):
            heapq.heappush(queue, (score, place, following, root))


def _step(candidates: Candidates, root: str, at: int) -> Iterator[tuple[float, int]]:
    """Mean score of the channels that go from the width at this place to the next, and that place; none behind it."""
    widths = candidates.widths[root]
    if at + 1 < len(widths):
        whole = widths[0]
        rising = candidates.scores[root].sort().values
        yield rising[whole - widths[at] : whole - widths[at + 1]].mean().item(), at + 1


def out_of_reach(budget: PruneBudget, least: float, whole: float) -> PassError:
    """The error of a budget below what the deepest cut costs."""
    unit, said = (" ms", f"{least:.3f} ms") if budget.name == "latency_ms" else ("", f"{least / whole:.3f}")
    return PassError(
        what=f"{budget.name} {budget.limit:g}{unit} cannot be reached: at least {said} is left",
        where="step prune",
        fix="raise the budget, or lower min_keep_ratio or multiple_of; the log names what stays whole",
    )
