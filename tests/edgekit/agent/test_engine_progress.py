"""Progress of a build, with a clock that the test moves."""

import threading
from typing import Any

from edgekit.agent.engine_progress import BuildProgress


class Told:
    def __init__(self) -> None:
        self.now = 100.0
        self.said: list[dict[str, Any]] = []
        self.progress = BuildProgress("building", self.say, every_s=1000.0, clock=lambda: self.now)

    def say(self, **fields: Any) -> None:
        self.said.append(fields)

    def at(self, seconds: float) -> dict[str, Any]:
        self.now = 100.0 + seconds
        self.progress.tell_now()
        return self.said[-1]


def test_without_phases_only_time_is_told():
    told = Told()
    assert told.at(12.0) == {"stage": "building", "elapsed_s": 12.0}


def test_steps_make_a_share_and_a_time_left():
    told = Told()
    told.progress.start("Engine", "", 4)
    told.progress.step("Engine", 0)
    assert told.at(30.0) == {
        "stage": "building: Engine",
        "elapsed_s": 30.0,
        "done": 250,
        "total": 1000,
        "left_s": 90.0,
    }


def test_an_inner_phase_is_part_of_the_step_it_is_in():
    told = Told()
    told.progress.start("Engine", "", 2)
    told.progress.step("Engine", 0)
    told.progress.start("Tactics", "Engine", 4)
    told.progress.step("Tactics", 1)
    found = told.at(30.0)
    assert found["stage"] == "building: Tactics"
    assert found["done"] == 750  # one step and half of the second, of two
    assert found["left_s"] == 10.0
    told.progress.finish("Tactics")
    assert told.at(30.0)["done"] == 500  # the step that it was part of says so when it is done


def test_no_time_left_is_guessed_from_next_to_nothing():
    told = Told()
    told.progress.start("Engine", "", 100)
    told.progress.step("Engine", 0)
    assert told.at(5.0)["left_s"] is None


def test_a_second_phase_begins_anew():
    told = Told()
    told.progress.start("First", "", 2)
    told.progress.step("First", 1)
    assert told.at(10.0)["done"] == 1000
    told.progress.start("Second", "", 2)
    assert told.at(20.0)["done"] == 0
    told.progress.step("Second", 0)
    assert told.at(30.0)["left_s"] == 20.0  # since the second began


def test_it_is_told_from_a_thread_while_the_build_blocks():
    twice = threading.Event()
    said: list[dict[str, Any]] = []

    def say(**fields: Any) -> None:
        said.append(fields)
        if len(said) >= 3:
            twice.set()

    with BuildProgress("building", say, every_s=0.001):
        assert twice.wait(30)
    count = len(said)
    assert threading.active_count() >= 1
    assert count >= 3
    assert len(said) == count  # nothing is told after the end
