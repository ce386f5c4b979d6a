import itertools

import pytest

from edgekit.passes.prune.greedy import Judged, Search

SAVED = {"a": (4.0, 7.0), "b": (5.0,), "c": (1.0, 2.0, 3.0)}
HARM = {"a": (1.0, 4.0), "b": (0.5,), "c": (0.1, 0.2, 9.0)}
FORMS = {name: len(saved) for name, saved in SAVED.items()}


def _judged(state):
    cost = 20.0 - sum(SAVED[name][form - 1] for name, form in state.items() if form)
    return Judged(cost, cost, sum(HARM[name][form - 1] for name, form in state.items() if form))


def judge(state, below, worth_below):
    found = _judged(state)
    return found if found.cost < below else None


@pytest.mark.parametrize("bound", [19, 15, 12, 9, 7])
def test_damage_is_the_least_of_all_states_where_steps_do_not_interact(bound):
    walk = Search(FORMS, judge)
    found = walk.until(bound)
    states = [
        dict(zip(FORMS, forms, strict=True)) for forms in itertools.product(*(range(n + 1) for n in FORMS.values()))
    ]
    best = min(_judged(state).damage for state in states if _judged(state).cost <= bound)
    assert found.cost <= bound
    assert found == _judged(walk.state)
    assert found.damage == pytest.approx(best, abs=0.5)  # greedy: a step may save more than was asked for


def test_the_cheapest_damage_for_what_is_saved_goes_first():
    walk = Search(FORMS, judge)
    walk.until(19)
    assert walk.state == {"c": 1}  # 0.1 for what is needed, and b would be 0.5
    walk = Search(FORMS, judge)
    walk.until(15)
    assert [step[0] for step in walk.steps] == ["b"]  # 0.1 for each that is saved, like c, and more of them


def test_what_a_step_saves_beyond_the_bound_does_not_count_for_it():
    saved, harm = {"small": 2.0, "big": 9.0}, {"small": 0.5, "big": 1.0}  # by what they save in all, big is cheaper

    def look(state, below, worth_below):
        cost = 10 - sum(saved[unit] for unit in state)
        found = Judged(cost, cost, sum(harm[unit] for unit in state))
        return found if found.cost < below else None

    walk = Search(dict.fromkeys(saved, 1), look)
    assert walk.until(8) == Judged(8.0, 8.0, 0.5)


def test_what_nothing_can_meet_ends_with_all_cut():
    walk = Search(FORMS, judge)
    assert walk.until(1).cost == _judged(FORMS).cost > 1
    assert walk.state == FORMS


def test_a_coarse_last_step_makes_earlier_ones_needless():
    saved, harm = {"small": 2.0, "big": 9.0}, {"small": 0.1, "big": 3.0}

    def look(state, below, worth_below):
        gone = [unit for unit, form in state.items() if form]
        cost = 10 - sum(saved[unit] for unit in gone)
        found = Judged(cost, cost, sum(harm[unit] for unit in gone))
        return found if found.cost < below else None

    walk = Search(dict.fromkeys(saved, 1), look)
    assert walk.until(1.5) == Judged(1.0, 1.0, 3.0)
    assert walk.state == {"small": 0, "big": 1}


def test_a_cut_that_does_not_run_or_saves_nothing_is_passed_over():
    asked = []

    def look(state, below, worth_below):
        asked.append(dict(state))
        if state.get("broken"):
            return None
        cost = 10 - 4 * state.get("good", 0)
        return Judged(cost, cost, 1.0 * state.get("good", 0)) if cost < below else None

    walk = Search({"broken": 1, "free": 1, "good": 1}, look)
    assert walk.until(7).cost == 6
    assert {"broken": 1} in asked


def test_candidates_are_judged_anew_only_while_they_could_be_the_best():
    asked = []

    def look(state, below, worth_below):
        asked.append(dict(state))
        return judge(state, below, worth_below)

    walk = Search(FORMS, look)
    walk.until(14)
    rounds = len(walk.steps)
    assert rounds >= 2
    assert len(asked) < 1 + rounds * len(FORMS) + rounds


def test_what_saves_nothing_of_worth_is_not_cut():
    def look(state, below, worth_below):
        cost = 10 - 4 * state.get("counted", 0) - 3 * state.get("timed", 0)
        worth = 10 - 3 * state.get("timed", 0)  # of `counted`, only the budget's quantity falls
        return Judged(cost, worth, 1.0 * sum(state.values())) if cost < below and worth < worth_below else None

    walk = Search({"counted": 1, "timed": 1}, look)
    assert walk.until(7).cost == 7
    assert walk.state == {"timed": 1}
