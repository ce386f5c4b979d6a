import gc

import pytest

from edgekit.agent.timing import Frames, runs_needed, time_frames, time_runs, warm_up


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


class Camera:
    """A clock that passes when somebody sleeps or a run takes its time; in nanoseconds."""

    def __init__(self, durations_ms: list[float], late_ms: float = 0.0) -> None:
        self.now, self.late_ns = 0, int(late_ms * 1e6)
        self.durations_ns = [int(ms * 1e6) for ms in durations_ms]
        self.starts_ms: list[float] = []

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9) + self.late_ns

    def run(self) -> None:
        self.starts_ms.append(self.now / 1e6)
        self.now += self.durations_ns[len(self.starts_ms) - 1]


def test_frames_come_one_a_period_with_idle_time_between():
    camera = Camera([3.0] * 5)
    samples_ms, frames = time_frames(camera.run, 100.0, 0.0, 5, camera, camera.sleep)
    assert samples_ms == [3.0] * 5
    assert camera.starts_ms == [0.0, 10.0, 20.0, 30.0, 40.0]
    assert frames == Frames(due=5, missed=0, dropped=0)


def test_a_late_answer_is_a_missed_deadline_and_the_next_frame_starts_at_once():
    camera = Camera([3.0, 14.0, 3.0, 3.0])
    samples_ms, frames = time_frames(camera.run, 100.0, 0.0, 4, camera, camera.sleep)
    assert samples_ms == [3.0, 14.0, 3.0, 3.0]
    assert camera.starts_ms == [0.0, 10.0, 24.0, 30.0]
    assert frames == Frames(due=4, missed=1, dropped=0)


def test_frames_that_a_long_run_leaves_behind_are_dropped_and_missed():
    camera = Camera([35.0, 3.0])  # frames 1 and 2 are outdated when it ends, frame 3 is there
    _, frames = time_frames(camera.run, 100.0, 0.0, 2, camera, camera.sleep)
    assert camera.starts_ms == [0.0, 35.0]
    assert frames == Frames(due=4, missed=3, dropped=2)


def test_waking_up_late_costs_the_deadline_and_not_the_sample():
    camera = Camera([3.0] * 3, late_ms=8.0)
    samples_ms, frames = time_frames(camera.run, 100.0, 0.0, 3, camera, camera.sleep)
    assert samples_ms == [3.0] * 3
    assert frames.missed == 1  # frame 1 woke at 18 and ended at 21; frame 2 was there already and ended at 24


def test_frames_go_on_for_the_whole_duration():
    camera = Camera([1.0] * 100)
    samples_ms, _ = time_frames(camera.run, 100.0, 0.5, 3, camera, camera.sleep)
    assert len(samples_ms) == 51  # the one that ends at 501 ms is the first to end after half a second
