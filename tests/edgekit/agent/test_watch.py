from pathlib import Path

import pytest

from edgekit.agent.meters import MeterError
from edgekit.agent.power import Command, choose_meter, find_meters
from edgekit.agent.sensors import Glance
from edgekit.agent.throttle import Throttle
from edgekit.agent.watch import Watch
from tests.edgekit.agent import boards


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


def test_a_meter_of_ones_own_prints_watts(tmp_path: Path):
    meter = Command(["/bin/sh", "-c", "echo watts 4; echo watts 6; sleep 60"])
    try:
        value = None
        for _ in range(2000):
            try:
                value = meter.read()
                break
            except MeterError:
                continue
        first = value
        assert first in (4.0, 5.0)  # both lines, or the first alone
        assert meter.read() in (5.0, 6.0)  # nothing new: the last one again
    finally:
        meter.stop()


def test_a_meter_that_ends_is_an_error():
    meter = Command(["/bin/false"])
    meter._process.wait()
    with pytest.raises(MeterError, match="ended with status 1"):
        meter.read()
    meter.stop()


def test_every_board_has_the_meter_that_it_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    for board, source in ((boards.orin_nano, "INA3221"), (boards.nano, "INA3221"), (boards.x86, "RAPL")):
        root = tmp_path / board.__name__
        board(root)
        meters, reasons = find_meters(root, tools=False)
        assert [meter.source for meter in meters] == [source]
        assert reasons == []
    boards.pi_4(tmp_path / "pi")
    assert find_meters(tmp_path / "pi", tools=False)[0] == []
    assert find_meters(tmp_path / "pi", tools=False)[1][0].startswith("no power sensor is known here")


def test_a_pi_5_is_asked_by_vcgencmd_and_says_what_it_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "adc").write_text(boards.PMIC)
    boards.tool(tmp_path, "vcgencmd", f'[ "$1" = pmic_read_adc ] && cat {tmp_path}/adc\n')
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    boards.pi_5(tmp_path / "root")
    meters, _ = find_meters(tmp_path / "root")
    meter = choose_meter(meters, on_gpu=False)
    assert meter is not None
    assert meter.source == "PMIC of the Raspberry Pi 5"
    assert 10.0 < meter.read() < 12.0
    assert "USB" in meter.note


def test_the_users_own_meter_comes_first_and_one_that_cannot_start_is_named(tmp_path: Path):
    boards.orin_nano(tmp_path)
    meters, reasons = find_meters(tmp_path, ["/no/such/meter"], tools=False)
    assert [meter.source for meter in meters] == ["INA3221"]
    assert reasons[0].startswith("the meter /no/such/meter cannot be started")
    meters, _ = find_meters(tmp_path, ["/bin/cat"], tools=False)
    assert meters[0].source == "meter /bin/cat"
    meters[0].stop()  # type: ignore[attr-defined]  # it is a Command
