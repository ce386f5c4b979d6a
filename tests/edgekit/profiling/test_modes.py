"""Modes of measuring on a simulated board, whose clock, heat and throttling follow a script."""

import pytest

from edgekit.errors import SchemaError
from edgekit.profiling.jobs import profile, profile_interleaved
from edgekit.schema.device import Device
from edgekit.schema.profile import MeasureSettings

PHASES = [
    {"from_s": 0, "clock_mhz": 2400, "temp_c": 55},
    {"from_s": 300, "slowdown": 3.0, "clock_mhz": 1000, "temp_c": 85, "throttled": True},
]


def board(base_ms: float) -> Device:
    script = {"latency": {"base_ms": base_ms, "jitter_ratio": 0.01}, "phases": PHASES}
    return Device(
        name="pi5-sim", target="raspberry-pi-5", transport="simulated", stand_in_for="raspberry-pi-5", simulate=script
    )


def test_a_long_run_shows_when_the_board_was_held_back(product):
    settings = MeasureSettings(batch=4, sustained_s=600, percentile=90)
    found = profile(board(50.0), product.path, product.row, "onnxruntime", settings)
    minutes = found.sustained.minutes
    assert len(minutes) == 10
    assert [round(row.p50_ms / 50) for row in minutes] == [1] * 5 + [3] * 5
    assert [row.throttled for row in minutes] == [False] * 4 + [True] * 6  # the last look of minute 5 is at its end
    assert [row.temp_c_max for row in minutes][-1] == 85.0
    assert minutes[-1].clock_mhz_min == 1000.0
    assert found.sustained.slowdown == pytest.approx(3.0, rel=0.01)
    assert found.sustained.low < 3.0 < found.sustained.high
    assert "throttled" in found.reasons
    assert not {"drifted", "noisy"} & set(found.reasons)
    assert sum(row.runs for row in minutes) == len(found.samples_ms)
    assert found.conditions.clock_mhz_start == 2400.0
    assert (found.conditions.clock_mhz_min, found.conditions.temp_c_max) == (1000.0, 85.0)


def test_at_a_cadence_a_board_that_is_held_back_misses_its_frames(product):
    settings = MeasureSettings(batch=4, fps=10, duration_s=600, percentile=90)
    found = profile(board(50.0), product.path, product.row, "onnxruntime", settings)
    assert 5900 <= found.cadence.due <= 6100
    # from 300 s on a run takes 150 ms of a period of 100 ms
    assert 0.45 < found.cadence.missed_ratio < 0.55
    assert 0 < found.cadence.dropped < found.cadence.missed


def test_in_time_nothing_is_missed(product):
    settings = MeasureSettings(batch=4, fps=10, duration_s=100, percentile=90)
    found = profile(board(50.0), product.path, product.row, "onnxruntime", settings)
    assert (found.cadence.missed, found.cadence.dropped) == (0, 0)
    assert found.cadence.due == found.summary.n


def test_a_sustained_run_at_a_cadence(product):
    settings = MeasureSettings(batch=4, fps=10, sustained_s=600, percentile=90)
    found = profile(board(50.0), product.path, product.row, "onnxruntime", settings)
    missed = [row.missed for row in found.sustained.minutes]
    assert missed[:4] == [0] * 4
    assert missed[4] <= 10  # warming up had taken a little of the 300 s
    assert min(missed[5:]) > 500
    assert found.cadence.missed == sum(row.missed for row in found.sustained.minutes)


def test_a_sustained_run_does_not_alternate(product):
    artifacts = [(product.path, product.row, "onnxruntime")] * 2
    with pytest.raises(SchemaError, match="does not alternate"):
        profile_interleaved(board(1.0), artifacts, MeasureSettings(batch=4, sustained_s=60))


def test_samples_of_many_runs_are_thinned_and_the_runs_counted(product):
    settings = MeasureSettings(batch=4, sustained_s=120, percentile=90)
    found = profile(board(5.0), product.path, product.row, "onnxruntime", settings)
    assert sum(row.runs for row in found.sustained.minutes) > 20_000
    assert len(found.samples_ms) <= 10_000
    assert found.sustained.kept_ratio == pytest.approx(1 / 3, rel=0.01)
