from typing import Any

import pytest

from edgekit.errors import DeviceError
from edgekit.profiling.host_meter import HostMeter
from edgekit.profiling.jobs import profile, profile_interleaved
from edgekit.schema.device import PowerMeter
from edgekit.schema.profile import MeasureSettings

EVERY_20_MS = ["/bin/sh", "-c", "while :; do echo watts 6.5; sleep 0.02; done"]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def heard_at(meter: HostMeter, clock: Clock, now: float, **fields: Any) -> None:
    clock.now = now
    meter.heard(fields)


def read_at(meter: HostMeter, now: float, value: float) -> None:
    meter._readings.append((now, value))


def test_readings_belong_to_what_the_board_did_though_its_lines_come_late():
    clock = Clock()
    meter = HostMeter(["unused"], clock)  # the board's clock is 990 s behind
    heard_at(meter, clock, 1010.7, stage="idle power", at_s=20.0, seconds=3.0)  # heard 0.7 s late
    heard_at(meter, clock, 1013.0, stage="idle power read", at_s=23.0)  # at once
    heard_at(meter, clock, 1015.9, stage="measuring", at_s=25.0, case=0, done=0, total=2)
    heard_at(meter, clock, 1018.0, stage="measuring", at_s=28.0, case=1, done=0, total=2)
    heard_at(meter, clock, 1021.0, stage="measured", at_s=31.0, done=2, total=2)
    for i in range(120):
        now = 1010.05 + i / 10
        power = 2.0 if now < 1013 else 9.0 if now < 1015 else 5.0 if now < 1018 else 7.0
        read_at(meter, now, power)
    assert meter.energy(0) == {
        "source": "meter unused beside edgekit",
        "rails": ["whole device"],
        "note": "",
        "load_w": 5.0,
        "idle_w": 2.0,
    }
    assert meter.energy(1)["load_w"] == 7.0


def test_readings_right_after_a_change_do_not_count():
    clock = Clock()
    meter = HostMeter(["unused"], clock)
    heard_at(meter, clock, 1000.0, stage="measuring", at_s=0.0, case=0)
    heard_at(meter, clock, 1001.0, stage="measured", at_s=1.0)
    for now, power in ((1000.1, 100.0), (1000.3, 5.0), (1000.5, 5.0), (1000.7, 5.0), (1001.1, 100.0)):
        read_at(meter, now, power)
    assert meter.energy(0)["load_w"] == 5.0


def test_too_few_readings_are_said():
    clock = Clock()
    meter = HostMeter(["unused"], clock)
    assert meter.energy(0)["unavailable"] == "0 readings of the meter while it ran, 3 are needed"
    heard_at(meter, clock, 1000.0, stage="measuring", at_s=0.0, case=0)
    heard_at(meter, clock, 1002.0, stage="measured", at_s=2.0)
    for now in (1000.5, 1001.0, 1001.5):
        read_at(meter, now, 4.0)
    found = meter.energy(0)
    assert (found["load_w"], found["idle_w"]) == (4.0, None)
    assert found["unavailable"] == "0 readings of the meter while idle, 3 are needed"


def test_a_meter_that_cannot_be_started_is_an_error_of_the_device():
    with pytest.raises(DeviceError, match="cannot be started"), HostMeter(["/no/such/meter"]):
        pass


@pytest.mark.parametrize("place", ["here", "device"])
def test_a_meter_of_ones_own_gives_energy(local, product, place):
    device = local.model_copy(update={"power": PowerMeter(meter=tuple(EVERY_20_MS), on=place)})
    settings = MeasureSettings(batch=4, warmup_ms=1, warmup_runs=2, duration_s=1.0, percentile=50, idle_s=0.9)
    found = profile(device, product.path, product.row, "onnxruntime", settings)
    assert found.energy.load_w == pytest.approx(6.5)
    assert found.energy.idle_w == pytest.approx(6.5)
    assert found.energy.energy_per_inference_mj is None
    assert "not above" in found.energy.unavailable
    seconds = found.energy.gross_per_inference_mj / 6.5 / 1e3
    assert seconds == pytest.approx(found.summary.mean_ms / 1e3, rel=0.5)
    assert "/bin/sh" in found.energy.source


def test_every_artifact_of_a_job_has_its_own_readings(local, product, codes):
    device = local.model_copy(update={"power": PowerMeter(meter=tuple(EVERY_20_MS))})
    settings = MeasureSettings(batch=4, warmup_ms=1, warmup_runs=2, duration_s=1.6, percentile=50, idle_s=0.5)
    artifacts = [(product.path, product.row, "onnxruntime"), (product.path, product.row, "onnxruntime-unfused")]
    found = profile_interleaved(device, artifacts, settings, rounds=2)
    assert [one.energy.load_w for one in found] == [pytest.approx(6.5)] * 2
