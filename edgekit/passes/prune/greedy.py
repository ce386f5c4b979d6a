"""Choosing what goes: the step that does least damage for what it saves, again and again, until a budget is met.

Source: Yang et al., NetAdapt, arXiv:1804.03230, algorithm 1: candidates are really cut, judged by the network's own
answers and by a measured cost. Here damage is the divergence of answers, which needs no labels; the step taken is the
one with the least damage for each unit of cost saved; blocks and layers are candidates like channels; and candidates
are judged anew only as long as they could still be the best, since damage seldom falls as more is cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

State = Mapping[str, int]
"""Form of every unit that is not whole: 1 is the first cut, and so on."""


@dataclass(frozen=True)
class Judged:
    """One state.

    Attributes:
        cost: what the budget bounds.
        worth: what saving is counted in; the cost itself, or another quantity that falls with it.
        damage: how far the answers are from the whole network's.
    """

    cost: float
    worth: float
    damage: float


@dataclass
class Search:
    """A greedy walk through states.

    Attributes:
        forms: how many cuts each unit has, each deeper than the one before.
        judge: looks at a state's network, whose cost and worth must be below bounds; None: one is not, or it does not
            run.
        told: called after each step with the cost reached.
    """

    forms: Mapping[str, int]
    judge: Callable[[State, float, float], Judged | None]
    told: Callable[[float], None] = lambda cost: None
    state: dict[str, int] = field(default_factory=dict)
    steps: list[tuple[str, int, float]] = field(default_factory=list)
    _prices: dict[str, float] = field(default_factory=dict)

    def until(self, bound: float) -> Judged:
        """Cut until the cost is at most `bound`, or nothing is left to cut; then give back what the bound allows."""
        now = self._judged(self.state)
        while now.cost > bound:
            found = self._cheapest(now, bound)
            if found is None:
                return now
            unit, form, now = found
            self.steps.append((unit, self.state.get(unit, 0), self._prices.pop(unit)))
            self.state[unit] = form
            self.told(now.cost)
        return self._give_back(now, bound)

    def _judged(self, state: State) -> Judged:
        found = self.judge(state, math.inf, math.inf)
        assert found is not None, "a state that was taken runs"
        return found

    def _cheapest(self, now: Judged, bound: float) -> tuple[str, int, Judged] | None:
        """The step of least damage for what it saves, of which nothing below the bound counts.

        Prices of earlier rounds order the looks, and end them.
        """
        best: tuple[str, int, Judged] | None = None
        least = float("inf")
        waiting = [unit for unit in self.forms if self.state.get(unit, 0) < self.forms[unit]]
        for unit in sorted(waiting, key=lambda name: self._prices.get(name, float("-inf"))):
            if best is not None and self._prices.get(unit, float("-inf")) > least:
                break
            found = self._next(unit, now)
            if found is None:
                self._prices[unit] = float("inf")
                continue
            form, judged = found
            needed = min(1.0, (now.cost - bound) / (now.cost - judged.cost))
            self._prices[unit] = price = (judged.damage - now.damage) / (needed * (now.worth - judged.worth))
            if price < least or (price == least and best is not None and judged.worth < best[2].worth):
                least, best = price, (unit, form, judged)
        return best

    def _next(self, unit: str, now: Judged) -> tuple[int, Judged] | None:
        """The next cut of a unit that saves anything."""
        for form in range(self.state.get(unit, 0) + 1, self.forms[unit] + 1):
            judged = self.judge({**self.state, unit: form}, now.cost, now.worth)
            if judged is not None:
                return form, judged
        return None

    def _give_back(self, now: Judged, bound: float) -> Judged:
        """Undo steps that the last, coarser ones made needless, the dearest first."""
        for unit, before, _ in sorted(self.steps, key=lambda step: -step[2]):
            if self.state.get(unit, 0) <= before:
                continue
            wider = {**self.state, unit: before}
            judged = self.judge(wider, math.nextafter(bound, math.inf), math.inf)
            if judged is not None and judged.damage < now.damage:
                self.state, now = wider, judged
        return now
