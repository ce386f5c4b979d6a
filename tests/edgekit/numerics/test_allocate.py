"""Against every combination, on instances small enough to try them all."""

import itertools
import random

import pytest

from edgekit.numerics.allocate import Allocation, Item, Link, allocate, pareto_front, total


def brute_force(items: list[Item], budget: float, links: list[Link]) -> Allocation | None:
    every = (total(items, forms, links) for forms in itertools.product(*(range(len(i.losses)) for i in items)))
    return min((found for found in every if found.cost <= budget), key=lambda found: found.loss, default=None)


def instance(seed: int) -> tuple[list[Item], list[Link]]:
    draw = random.Random(seed)
    items = []
    for _ in range(6):
        cost = draw.randint(1, 40)
        loss = draw.lognormvariate(-6, 3)
        items.append(Item((loss, loss / 30, 0.0), (float(cost), 2.0 * cost, 8.0 * cost)))
    free = frozenset({2})
    links = [Link(draw.lognormvariate(-5, 2), {i: free, i + 1: free}) for i in range(5)]
    return items, [*links, Link(draw.lognormvariate(-4, 1), {0: free, 3: free, 5: free})]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("share", [0.0, 0.1, 0.35, 0.7, 1.0])
def test_it_is_as_good_as_trying_all(seed: int, share: float) -> None:
    items, links = instance(seed)
    least, most = sum(i.costs[0] for i in items), sum(i.costs[2] for i in items)
    budget = least + share * (most - least)
    found, best = allocate(items, budget, links), brute_force(items, budget, links)
    assert found is not None
    assert best is not None
    assert found.loss == pytest.approx(best.loss, rel=1e-6)
    assert found.cost <= budget


def test_a_link_counts_until_its_last_end_is_free() -> None:
    # alone neither raise is worth 10; together they save the link's loss
    items = [Item((1.0, 0.0), (0.0, 10.0)), Item((1.0, 0.0), (0.0, 10.0)), Item((3.0, 0.0), (0.0, 10.0))]
    links = [Link(5.0, {0: frozenset({1}), 1: frozenset({1})})]
    one, two = allocate(items, 10.0, links), allocate(items, 20.0, links)
    assert one is not None
    assert two is not None
    assert (one.forms, one.loss, one.cost) == ((0, 0, 1), 7.0, 10.0)
    assert (two.forms, two.loss, two.cost) == ((1, 1, 0), 3.0, 20.0)


def test_a_budget_below_the_cheapest_forms_has_no_answer() -> None:
    assert allocate([Item((1.0, 0.0), (4.0, 8.0))] * 2, 7.9) is None


def test_costs_of_a_billion_are_kept_to_the_unit() -> None:
    items = [Item((1.0, 0.0), (0.0, 1_000_000_000.0)), Item((0.5, 0.0), (0.0, 1.0))]
    found = allocate(items, 1_000_000_000.0)
    assert found is not None
    assert found.forms == (1, 0)


@pytest.mark.parametrize("seed", range(4))
def test_the_front_falls_and_each_of_its_points_is_the_best_for_its_cost(seed: int) -> None:
    items, links = instance(seed)
    front = pareto_front(items, 9, links)
    assert front[0].cost == sum(i.costs[0] for i in items) or front[0].loss < total(items, [0] * 6, links).loss
    assert front[-1].loss == pytest.approx(0.0)
    for point, after in itertools.pairwise(front):
        assert point.cost < after.cost
        assert point.loss > after.loss
    for point in front:
        best = brute_force(items, point.cost, links)
        assert best is not None
        assert point.loss == pytest.approx(best.loss, rel=1e-6)
