import gc

import pytest

from edgekit.agent.timing import runs_needed, time_runs, warm_up


class FakeMachine:
    """A clock that only runs forward: each run takes the next duration, and reading the clock takes nothing."""

    def __init__(self, durations_ms: list[float]) -> None:
        self.durations_ms = durations_ms
        self.now_ns = 5_000_000_000
        self.runs = 0

    def clock(self) -> int:
        return self.now_ns

    def run(self) -> None:
        self.now_ns += int(self.durations_ms[self.runs % len(self.durations_ms)] * 1e6)
        self.runs += 1


def test_samples_are_the_durations_in_order():
    machine = FakeMachine([3.0, 1.0, 2.5])
    assert time_runs(machine.run, 0.001, 5, machine.clock) == [3.0, 1.0, 2.5, 3.0, 1.0]


def test_timing_goes_on_until_the_duration_has_passed():
    machine = FakeMachine([10.0])
    assert len(time_runs(machine.run, 0.25, 5, machine.clock)) == 25


def test_timing_goes_on_until_the_runs_are_made():
    machine = FakeMachine([10.0])
    assert len(time_runs(machine.run, 0.01, 40, machine.clock)) == 40


def test_warm_up_keeps_to_both_of_its_least():
    slow, fast = FakeMachine([100.0]), FakeMachine([4.0])
    assert len(warm_up(slow.run, 200, 10, slow.clock)) == 10  # 200 ms would be 2 runs
    assert len(warm_up(fast.run, 200, 10, fast.clock)) == 50  # 10 runs would be 40 ms


def test_warm_up_runs_are_in_no_sample():
    machine = FakeMachine([500.0] * 10 + [1.0] * 90)  # a first-use cost that would show
    assert warm_up(machine.run, 0, 10, machine.clock) == [500.0] * 10
    assert time_runs(machine.run, 0.001, 90, machine.clock) == [1.0] * 90


def test_the_collector_rests_while_timing_and_works_again_afterwards():
    machine = FakeMachine([1.0])
    seen = []

    def run() -> None:
        machine.run()
        seen.append(gc.isenabled())

    time_runs(run, 0.001, 3, machine.clock)
    assert seen == [False] * 3
    assert gc.isenabled()


@pytest.mark.parametrize(("percentile", "runs"), [(50, 20), (90, 100), (95, 200), (99, 1000), (99.9, 10_000)])
def test_a_percentile_needs_ten_samples_beyond_it(percentile: float, runs: int):
    assert runs_needed(percentile) == runs
