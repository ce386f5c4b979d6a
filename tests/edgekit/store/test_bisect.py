from typing import Any

import pytest

from edgekit.errors import DataError
from edgekit.store.bisect import Bisection, Wished, bisect
from edgekit.store.builds import record_build
from edgekit.store.profiles import Origin, ProfileStore
from edgekit.store.sides import find_side
from tests.edgekit.store.made import build_number, hours_before, profile_of, stand_in, timed


def add(store: ProfileStore, number: int, level_ms: float, *, spread: float = 0.01, **changes: Any) -> int:
    key = store.add(profile_of(timed(level_ms, number, spread=spread), **changes), Origin("kws", "pi", ships=True))
    record_build(store.database, build_number(number), [key])
    return key


def history(store: ProfileStore, *levels_ms: float | None) -> None:
    """Builds 1, 2, ...; None: not measured."""
    for number, level_ms in enumerate(levels_ms, 1):
        if level_ms is None:
            record_build(store.database, build_number(number))
        else:
            add(store, number, level_ms)


def searched(store: ProfileStore, good: int, bad: int, *more: Any) -> Bisection:
    return bisect(store, find_side(store, f"{good:x}" * 64), find_side(store, f"{bad:x}" * 64), *more)


def states(found: Bisection) -> list[str]:
    return [point.state for point in found.points]


def test_the_first_slower_build_is_found(store: ProfileStore):
    history(store, 1.0, 1.005, 0.99, 1.2, 1.21, 1.2)
    found = searched(store, 1, 6)
    assert found.conclusive
    assert found.first_bad is not None
    assert found.last_good is not None
    assert (found.first_bad.digest[0], found.last_good.digest[0]) == ("4", "3")
    assert found.first_bad.git_commit == "c4" * 20
    assert found.first_bad.change == pytest.approx(0.2, abs=0.01)
    assert states(found) == ["good", "good", "good", "bad", "bad", "bad"]
    assert found.between == 4
    assert (found.recipe, found.target, found.device, found.runtime, found.artifact) == (
        "kws",
        "pi",
        "bench",
        "onnxruntime",
        "model.onnx",
    )


def test_only_what_lies_between_the_ends_counts(store: ProfileStore):
    history(store, 2.0, 1.0, 1.0, 1.3, 3.0)
    found = searched(store, 2, 4)
    assert [point.digest[0] for point in found.points] == ["2", "3", "4"]
    assert found.between == 1
    assert found.first_bad == found.points[-1]


def test_a_step_on_the_way_is_the_first_worse_one(store: ProfileStore):
    history(store, 1.0, 1.1, 1.3)
    found = searched(store, 1, 3)
    assert found.conclusive
    assert found.first_bad == found.points[1]


def test_ends_that_do_not_differ_are_told(store: ProfileStore):
    history(store, 1.0, 1.2, 1.01)
    found = searched(store, 1, 3)
    assert (found.conclusive, found.first_bad) == (False, None)
    assert found.reason == "no significant change between the two ends"


def test_builds_that_were_not_measured_leave_a_gap(store: ProfileStore):
    history(store, 1.0, 1.0, None, 1.2, 1.2)
    add(store, 3, 1.0, valid=False, reasons=("noisy",))
    found = searched(store, 1, 5)
    assert not found.conclusive
    assert found.first_bad == found.points[3]
    assert found.last_good == found.points[1]
    assert found.reason == "1 between the last good one and it cannot be judged: INVALID: noisy"


def test_an_interval_that_overlaps_both_ends_is_inconclusive(store: ProfileStore):
    history(store, 1.0, None, 1.06)
    levels = [level for part in range(30) for level in timed(1.0 if part % 2 else 1.07, part, 10)]
    key = store.add(profile_of(levels), Origin("kws", "pi"))
    record_build(store.database, build_number(2), [key])
    found = searched(store, 1, 3)
    assert states(found) == ["good", "unclear", "bad"]
    assert not found.conclusive
    assert "its interval overlaps those of both ends" in found.reason


def test_a_build_that_was_good_again_is_told(store: ProfileStore):
    history(store, 1.0, 1.2, 1.0, 1.2)
    found = searched(store, 1, 4)
    assert found.first_bad == found.points[1]
    assert not found.conclusive
    assert found.reason == f"1 after it are good again, the first is build {'3' * 12}"


def test_other_machines_and_settings_are_no_measurement(store: ProfileStore):
    history(store, 1.0, None, 1.2)
    add(store, 2, 1.0, settings=profile_of().settings.model_copy(update={"threads": 4}))
    found = searched(store, 1, 3)
    assert found.points[1].state == "not measured"
    assert found.points[1].reason == "measured otherwise: threads: 2, 4"
    add(store, 2, 1.0, measured_at=hours_before(9))  # older, but as the ends were
    found = searched(store, 1, 3)
    assert (found.points[1].state, found.conclusive) == ("good", True)


def test_ends_without_a_believable_profile_are_told(store: ProfileStore):
    history(store, 1.0, 1.0, None)
    add(store, 3, 1.2, valid=False, reasons=("throttled",))
    found = searched(store, 1, 3)
    assert found.reason == "the bad end: INVALID: throttled"
    assert states(found) == ["unclear", "unclear", "not measured"]
    assert found.points[0].value == pytest.approx(1.0, abs=0.01)


def test_a_history_of_one_stand_in_can_be_searched(store: ProfileStore):
    for number, level_ms in enumerate((1.0, 1.0, 1.2), 1):
        add(store, number, level_ms, **stand_in())
    found = searched(store, 1, 3)
    assert found.conclusive
    assert found.first_bad == found.points[2]


def test_tails_and_memory_can_be_searched(store: ProfileStore):
    for number, (tail, peak) in enumerate(((1.0, 100), (1.0, 101), (1.5, 101), (1.5, 150)), 1):
        levels = list(timed(1.0, number, 3000))
        levels[::20] = [level * tail for level in levels[::20]]
        key = store.add(profile_of(levels, peak_rss_bytes=peak * 10**6), Origin("kws", "pi"))
        record_build(store.database, build_number(number), [key])
    assert searched(store, 1, 4).first_bad is None
    tails = searched(store, 1, 4, "p99_ms")
    assert tails.conclusive
    assert tails.first_bad == tails.points[2]
    memory = searched(store, 1, 4, "peak_rss_bytes")
    assert memory.conclusive
    assert memory.first_bad == memory.points[3]
    assert (memory.first_bad.low, memory.first_bad.change) == (None, pytest.approx(0.5))


def test_memory_that_could_not_be_read_is_told(store: ProfileStore):
    history(store, 1.0, 1.2)
    assert searched(store, 1, 2, "peak_rss_bytes").reason == "the good end: peak_rss_bytes could not be read"


def test_where_several_were_measured_one_is_chosen(store: ProfileStore):
    history(store, 1.0, 1.2)
    for number, level_ms in ((1, 1.0), (2, 1.0)):
        add(store, number, level_ms, device="other")
    with pytest.raises(DataError) as caught:
        searched(store, 1, 2)
    assert caught.value.fix == "choose with --artifact, --device, --runtime"
    assert searched(store, 1, 2, "p50_ms", Wished(device="bench")).conclusive
    assert not searched(store, 1, 2, "p50_ms", Wished(device="other")).conclusive


@pytest.mark.parametrize(
    ("good", "bad", "what"),
    [
        ("222222", "111111", "the good build was not made before the bad one"),
        ("111111", "111111", "the good build was not made before the bad one"),
        ("111111", "333333", "one is of kws for pi, the other of kws for jetson"),
        ("1", "222222", "profile 1 is no build"),
        ("111111", "444444", "nothing of the kind was measured of both"),
    ],
)
def test_ends_that_make_no_sense_are_refused(store: ProfileStore, good: str, bad: str, what: str):
    history(store, 1.0, 1.2)
    record_build(store.database, build_number(3, target="jetson"), [store.add(profile_of())])
    record_build(store.database, build_number(4))
    with pytest.raises(DataError) as caught:
        bisect(store, find_side(store, good), find_side(store, bad))
    assert caught.value.what == what
