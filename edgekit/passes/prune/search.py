"""Method search: cut where the answers suffer least for what is saved, channels and whole blocks alike."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.passes.prune.candidates import Candidates, Cuts
from edgekit.passes.prune.cost import bound_of, exact_cost, quick_cost, saved_cost
from edgekit.passes.prune.divergence import Divergence
from edgekit.passes.prune.greedy import Judged, Search, State
from edgekit.passes.prune.ranking import out_of_reach
from edgekit.schema.prune import PruneOptions

logger = logging.getLogger(__name__)

_WIDTHS = 8  # judged for one group at most
_CLOSER = 0.97  # what a bound on the table is lowered by besides, when the whole network was measured above its own


def search(model: Model, options: PruneOptions, context: Context, candidates: Candidates) -> Cuts:
    """The cuts of a greedy search. Where a device is named, a table of its layers' times says what a cut saves.

    That is so whatever the budget bounds; under one of latency, the whole network's time says when to stop.

    Raises:
        PassError: the budget cannot be met, or nothing measures it.
    """
    assert options.budget is not None
    quick, exact = quick_cost(options.budget, context), exact_cost(options.budget, context)
    saved = quick if options.budget.measured else saved_cost(model, options.budget, context)
    divergence = Divergence(
        model, context.splits.calibration.head(options.samples), options.loss, recalibrate=options.recalibrate_norms
    )
    widths = {f"channels of {root}": _spread(own) for root, own in candidates.widths.items()}
    roots = {f"channels of {root}": root for root in candidates.widths}
    forms = {unit: len(own) - 1 for unit, own in widths.items()} | dict.fromkeys(candidates.blocks, 1)

    def cuts(state: State) -> Cuts:
        kept = {roots[unit]: widths[unit][form] for unit, form in state.items() if unit in roots}
        return Cuts(candidates.removed(kept), [unit for unit in state if state[unit] and unit not in roots])

    def judge(state: State, below: float, worth_below: float) -> Judged | None:
        smaller = candidates.cut(cuts(state))
        try:
            cost = quick(smaller)
            if cost >= below:
                return None
            worth = saved(smaller)
            return Judged(cost, worth, divergence(smaller.network)) if worth < worth_below else None
        except RuntimeError as err:  # the network's own code, and a cut that it cannot run with
            logger.debug("prune: %s does not run: %s", dict(state), err)
            return None

    whole, table_whole = exact(model), quick(model)
    bound = bound_of(options.budget, whole)
    table_bound = bound * table_whole / whole

    def told(cost: float) -> None:
        share = (table_whole - cost) / max(table_whole - table_bound, 1e-12)
        context.progress(min(99, int(100 * share)), 100, "searching")

    walk = Search(forms, judge, told)
    while True:
        reached = walk.until(table_bound)
        cost = exact(candidates.cut(cuts(walk.state))) if options.budget.measured else reached.cost
        if cost <= bound:
            break
        if reached.cost > table_bound:
            raise out_of_reach(options.budget, cost, whole)
        logger.info("prune: %.3f ms measured, and the budget is %.3f ms: going on", cost, bound)
        table_bound = min(table_bound, reached.cost) * bound / cost * _CLOSER
    for unit, form in walk.state.items():
        logger.info(
            "prune: %s: %s", unit, f"{widths[unit][0]} -> {widths[unit][form]}" if unit in widths else "removed"
        )
    return cuts(walk.state)


def _spread(widths: Sequence[int]) -> Sequence[int]:
    """At most so many of a group's widths, evenly apart, with the first and the last."""
    if len(widths) <= _WIDTHS + 1:
        return widths
    return [widths[round(place * (len(widths) - 1) / _WIDTHS)] for place in range(_WIDTHS + 1)]
