"""One choice for every item under a budget, at the least loss: solved exactly as an integer program.

It knows nothing of layers. An item is anything that has several forms; a link is a loss that two or more items have
together, and that goes away only when all of them take a form that is free of it.

Source: the integer program of Yao et al., HAWQ-V3, arXiv:2011.10680, section 3.4, with links added; solved by HiGHS
(Huangfu and Hall, Math. Prog. Comp. 10 (2018) 119-142) through scipy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

_INFEASIBLE = 2  # status of scipy.optimize.milp


@dataclass(frozen=True)
class Item:
    """The forms that one item may take.

    Attributes:
        losses: of each form, >= 0.
        costs: of each form, >= 0.
    """

    losses: tuple[float, ...]
    costs: tuple[float, ...]


@dataclass(frozen=True)
class Link:
    """A loss that counts unless every end takes a free form.

    Attributes:
        loss: >= 0.
        free: index of an item -> indices of its forms that are free.
    """

    loss: float
    free: Mapping[int, frozenset[int]]


@dataclass(frozen=True)
class Allocation:
    """A form for every item.

    Attributes:
        forms: index of the form, for every item.
        loss: of all items and links.
        cost: of all items.
    """

    forms: tuple[int, ...]
    loss: float
    cost: float


def allocate(items: Sequence[Item], budget: float, links: Sequence[Link] = ()) -> Allocation | None:
    """The forms of least loss whose costs sum to at most `budget`; None where even the cheapest forms cost more."""
    if sum(min(item.costs) for item in items) > budget:
        return None
    refused: list[tuple[int, ...]] = []
    while True:
        found = _solve(items, links, budget, refused)
        if found is None or found.cost <= budget:
            return found
        refused.append(found.forms)  # over the budget by no more than the solver's tolerance of a millionth


def pareto_front(items: Sequence[Item], points: int, links: Sequence[Link] = ()) -> tuple[Allocation, ...]:
    """Allocations that no other found one beats in both loss and cost, by rising cost.

    Args:
        points: evenly spaced budgets that are solved for, from the cheapest forms to the dearest; at least 2.
    """
    least = sum(min(item.costs) for item in items)
    most = sum(max(item.costs) for item in items)
    front: list[Allocation] = []
    for budget in np.linspace(least, most, points).tolist():
        found = allocate(items, max(budget, least), links)
        if found is not None and (not front or found.loss < front[-1].loss):
            if front and front[-1].cost >= found.cost:
                front.pop()
            front.append(found)
    return tuple(front)


def total(items: Sequence[Item], forms: Sequence[int], links: Sequence[Link] = ()) -> Allocation:
    """Loss and cost of given forms."""
    loss = sum(item.losses[form] for item, form in zip(items, forms, strict=True))
    loss += sum(link.loss for link in links if any(forms[end] not in free for end, free in link.free.items()))
    return Allocation(tuple(forms), loss, sum(item.costs[form] for item, form in zip(items, forms, strict=True)))


def _solve(
    items: Sequence[Item], links: Sequence[Link], budget: float, refused: Sequence[tuple[int, ...]]
) -> Allocation | None:
    """Variables: one 0/1 for every form of every item, then one in [0, 1] for every link."""
    starts = np.cumsum([0, *(len(item.losses) for item in items)])
    forms, width = int(starts[-1]), int(starts[-1]) + len(links)
    losses = np.array([loss for item in items for loss in item.losses] + [link.loss for link in links])
    costs = np.array([cost for item in items for cost in item.costs] + [0.0] * len(links))
    rows: list[tuple[int, int, float]] = []
    low: list[float] = []
    high: list[float] = []

    def add(entries: Sequence[tuple[int, float]], at_least: float, at_most: float) -> None:
        rows.extend((len(low), column, value) for column, value in entries)
        low.append(at_least)
        high.append(at_most)

    for i, item in enumerate(items):
        add([(starts[i] + j, 1.0) for j in range(len(item.losses))], 1.0, 1.0)
    for k, link in enumerate(links):
        for end, free in link.free.items():  # the link counts as soon as one end takes a form that is not free
            bound = [(starts[end] + j, -1.0) for j in range(len(items[end].losses)) if j not in free]
            add([(forms + k, 1.0), *bound], 0.0, np.inf)
    for given in refused:
        add([(starts[i] + form, 1.0) for i, form in enumerate(given)], -np.inf, len(items) - 1.0)
    # both sides are brought to about 1, since the solver's tolerances are absolute
    unit = max(budget, float(costs.max(initial=0.0))) or 1.0
    add([(column, cost / unit) for column, cost in enumerate(costs.tolist()) if cost], -np.inf, budget / unit)
    row, column, value = zip(*rows, strict=True)
    found = milp(
        losses / (losses.max(initial=0.0) or 1.0),
        integrality=np.array([1] * forms + [0] * len(links)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(csr_array((value, (row, column)), shape=(len(low), width)), low, high),
        options={"mip_rel_gap": 0.0},
    )
    if found.status == _INFEASIBLE:
        return None
    assert found.success, found.message
    chosen = [int(found.x[starts[i] : starts[i + 1]].argmax()) for i in range(len(items))]
    return total(items, chosen, links)
