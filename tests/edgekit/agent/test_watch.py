import pytest

from edgekit.agent.meters import MeterError
from edgekit.agent.sensors import Glance
from edgekit.agent.throttle import Throttle
from edgekit.agent.watch import Watch


class Clock:
    """Passes when somebody sleeps, in seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Probe:
    """Gets hotter and slower with every look."""

    def __init__(self) -> None:
        self.looks = 0

    def glance(self) -> Glance:
        self.looks += 1
        return Glance(2000.0 - 100.0 * self.looks, None, 40.0 + self.looks, Throttle(0x4 if self.looks > 2 else 0x0))


class Meter:
    """`rates` in watts by second of the clock, as watts now or as joules so far."""

    source, rails, note = "bench", ("all",), ""

    def __init__(self, clock: Clock, before: float, after: float, counts: bool, **kind: bool) -> None:
        self.clock, self.before, self.after, self.counts = clock, before, after, counts
        self.whole_board, self.of_gpu = kind.get("whole_board", True), kind.get("of_gpu", False)
        self.step_s = clock.now + 2.0
        self.broken = False

    def read(self) -> float:
        if self.broken:
            raise MeterError("unplugged")
        if not self.counts:
            return self.before if self.clock.now < self.step_s else self.after
        early = min(self.clock.now, self.step_s)
        return self.before * early + self.after * max(0.0, self.clock.now - self.step_s)


def work(watch: Watch, clock: Clock, key: str, seconds: float) -> None:
    watch.begin(key)
    end = clock.now + seconds
    while clock.now < end - 1e-9:
        clock.sleep(min(watch.wait_s(), end - clock.now) or 0.01)
        watch.tick()
    watch.end()


@pytest.mark.parametrize("counts", [True, False])
def test_power_under_load_and_idle_are_told_apart(counts: bool):
    clock = Clock()
    watch = Watch([Meter(clock, 2.0, 7.5, counts)], probe=Probe(), clock=clock, sleep=clock.sleep)
    watch.idle(2.0)
    work(watch, clock, "0", 3.0)
    found = watch.energy("0", on_gpu=False)
    # the last reading while idle may already fall on the step, where the clock stands at its end
    assert found["idle_w"] == pytest.approx(2.0, abs=0.6)
    assert found["load_w"] == pytest.approx(7.5)
    assert (found["source"], found["rails"]) == ("bench", ["all"])
    assert "unavailable" not in found


def test_glances_come_once_a_second_and_belong_to_what_ran():
    clock = Clock()
    watch = Watch(probe=Probe(), clock=clock, sleep=clock.sleep)
    work(watch, clock, "0", 3.0)
    work(watch, clock, "1", 2.0)
    assert [glance.temp_c for glance in watch.glances("0")] == [41.0, 42.0, 43.0]
    assert [glance.temp_c for glance in watch.glances("1")] == [44.0, 45.0]
    rows = watch.trace("0", on_gpu=False)
    assert [row["clock_mhz"] for row in rows] == [1900.0, 1800.0, 1700.0]
    assert [row["throttled"] for row in rows] == [False, False, True]
    assert watch.cost_ms == 0.0  # this clock stands still meanwhile


def test_watts_right_after_a_change_do_not_count():
    clock = Clock()
    meter = Meter(clock, 9.0, 5.0, False)
    watch = Watch([meter], probe=Probe(), clock=clock, sleep=clock.sleep)
    watch.idle(1.95)
    for _ in range(4):
        meter.step_s = clock.now + 0.05  # what was before is still seen for a moment
        work(watch, clock, "0", 0.2)
    assert watch.energy("0", on_gpu=False)["load_w"] == 5.0


def test_a_round_too_short_for_a_look_gets_one_at_its_end():
    clock = Clock()
    watch = Watch(probe=Probe(), clock=clock, sleep=clock.sleep)
    for key in ("0", "1", "0"):
        watch.begin(key)
        clock.sleep(0.05)
        watch.end()
    assert (len(watch.glances("0")), len(watch.glances("1")), len(watch.glances())) == (2, 1, 3)


def test_without_a_meter_idle_takes_no_time_and_the_reason_is_told():
    clock = Clock()
    watch = Watch([], ["no power sensor is known here"], probe=Probe(), clock=clock, sleep=clock.sleep)
    watch.idle(5.0)
    assert clock.now == 100.0
    assert watch.energy("0", on_gpu=False) == {"unavailable": "no power sensor is known here"}


def test_a_meter_that_does_not_see_the_work_is_no_meter():
    clock = Clock()
    gpu = Meter(clock, 70.0, 300.0, True, whole_board=False, of_gpu=True)
    watch = Watch([gpu], ["RAPL: for root alone"], probe=Probe(), clock=clock, sleep=clock.sleep)
    watch.idle(2.0)
    work(watch, clock, "0", 2.0)
    assert watch.energy("0", on_gpu=False)["unavailable"] == "RAPL: for root alone; bench sees the GPU alone"
    assert watch.energy("0", on_gpu=True)["load_w"] == pytest.approx(300.0)


def test_missing_halves_are_said():
    clock = Clock()
    watch = Watch([Meter(clock, 2.0, 7.5, False)], probe=Probe(), clock=clock, sleep=clock.sleep)
    work(watch, clock, "0", 3.0)
    assert watch.energy("0", on_gpu=False)["unavailable"].startswith("idle power was not measured")
    work(watch, clock, "1", 0.1)
    assert watch.energy("1", on_gpu=False)["unavailable"].startswith("too few readings")


def test_a_meter_that_breaks_takes_its_numbers_with_it():
    clock = Clock()
    meter = Meter(clock, 2.0, 7.5, False)
    watch = Watch([meter], probe=Probe(), clock=clock, sleep=clock.sleep)
    watch.idle(2.0)
    meter.broken = True
    work(watch, clock, "0", 3.0)
    found = watch.energy("0", on_gpu=False)
    assert found["unavailable"] == "unplugged"
    assert "load_w" not in found
    assert len(watch.glances("0")) == 3  # the rest goes on


def test_nothing_is_due_while_nothing_is_watched():
    clock = Clock()
    watch = Watch(probe=Probe(), clock=clock, sleep=clock.sleep)
    clock.sleep(10.0)
    assert watch.wait_s() > 0.0
    watch.tick()
    assert watch.glances() == []
