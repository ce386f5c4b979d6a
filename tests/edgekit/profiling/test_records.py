from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.profiling.records import Asked, energy_of, profiles_of
from edgekit.schema.device import Device
from edgekit.schema.profile import MeasureSettings
from tests.edgekit.profiling.conftest import artifact_row, tensor

READ = {"source": "INA3221", "rails": ["VDD_IN"], "note": "all"}


def test_energy_is_power_above_idle_times_the_time_of_an_inference():
    found = energy_of({**READ, "idle_w": 4.0, "load_w": 10.0}, 2.0, 400)  # 5 ms each
    assert found.energy_per_inference_mj == pytest.approx(30.0)
    assert found.gross_per_inference_mj == pytest.approx(50.0)
    assert (found.source, found.rails, found.note, found.unavailable) == ("INA3221", ("VDD_IN",), "all", "")


def test_pauses_between_frames_are_in_the_time_of_an_inference():
    assert energy_of({"idle_w": 4.0, "load_w": 4.5}, 10.0, 100).energy_per_inference_mj == pytest.approx(50.0)


def test_work_that_the_meter_does_not_see_has_no_energy_and_says_so():
    found = energy_of({**READ, "idle_w": 4.02, "load_w": 4.0}, 1.0, 100)
    assert found.energy_per_inference_mj is None
    assert found.gross_per_inference_mj == pytest.approx(40.0)
    assert found.unavailable.startswith("4 W while it ran is not above 4.02 W idle")


def test_without_idle_power_only_the_gross_value_is_there():
    found = energy_of({**READ, "load_w": 8.0, "idle_w": None, "unavailable": "idle power was not measured"}, 1.0, 100)
    assert (found.energy_per_inference_mj, found.gross_per_inference_mj) == (None, pytest.approx(80.0))
    assert found.unavailable == "idle power was not measured"


def case(samples: int, **changes: Any) -> dict[str, Any]:
    found = {
        "samples_ms": np.random.default_rng(0).normal(1.0, 0.02, samples).tolist(),
        "rounds": [samples],
        "runs": samples,
        "wall_s": samples / 1e3,
        "frames": None,
        "windows": [],
        "processor_ratio": 0.99,
        "preempted": 3,
        "runtime_version": "1.0",
        "peak_rss_bytes": 60_000_000,
        "load_rss_bytes": 30_000_000,
        "peak_gpu_bytes": None,
        "gpu_memory_unavailable": "the runtime runs on the processor",
        "energy": {"unavailable": "no power sensor"},
        "trace": [{"at_s": 1.0, "clock_mhz": 1500.0, "temp_c": 60.0, "throttled": False}],
    }
    return {**found, **changes}


def made(settings: MeasureSettings, tmp_path: Path, **changes: Any) -> Any:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"model")
    row = artifact_row(path, (tensor("x", "x", (1, 4)),), (tensor("y", "y", (1, 2)),))
    device = Device(name="bench", target="raspberry-pi-5")
    result = {
        "cases": [case(400, **changes)],
        "conditions": {"extra": {}, "throttled": False, "temp_c_max": 61.0},
        "libraries": {"numpy": "2"},
        "agent_version": "1",
    }
    asked = Asked(device, [(path, row, "onnxruntime")], settings, None, "2026-01-01T00:00:00.000+00:00")
    return profiles_of(asked, result)[0]


def test_a_profile_holds_what_the_agent_found(tmp_path: Path):
    found = made(MeasureSettings(percentile=90), tmp_path)
    assert found.valid
    assert (found.energy.unavailable, found.gpu_memory_unavailable) == (
        "no power sensor",
        "the runtime runs on the processor",
    )
    assert (found.cadence, found.sustained, found.layers, found.layers_ms) == (None, None, (), None)
    assert found.trace[0].temp_c == 60.0
    assert found.conditions.temp_c_max == 61.0


def test_missed_deadlines_are_a_result(tmp_path: Path):
    found = made(MeasureSettings(percentile=90, fps=30), tmp_path, frames={"due": 500, "missed": 250, "dropped": 100})
    assert found.valid
    assert (found.cadence.fps, found.cadence.missed_ratio, found.cadence.dropped) == (30.0, 0.5, 100)


def test_layers_get_their_shares_beside_the_whole(tmp_path: Path):
    layers = [
        {"name": "a", "operator": "Conv", "mean_ms": 0.9, "runs": 50, "precision": "int8"},
        {"name": "b", "operator": "Add", "mean_ms": 0.3, "runs": 50, "precision": None},
    ]
    found = made(MeasureSettings(percentile=90, layers=True), tmp_path, layers=layers)
    assert [layer.ratio for layer in found.layers] == [pytest.approx(0.75), pytest.approx(0.25)]
    assert found.layers_ms == pytest.approx(1.2)
    assert made(MeasureSettings(percentile=90), tmp_path, layers_unavailable="it has none").layers_unavailable == (
        "it has none"
    )


def test_a_sustained_run_is_judged_by_its_minutes(tmp_path: Path):
    seen = {
        "wall_s": 60.0,
        "runs": 2000,
        "kept": 200,
        "frames": None,
        "clock_mhz_min": 1.0,
        "gpu_clock_mhz_min": None,
        "temp_c_max": 1.0,
        "throttled": None,
        "throttled_by": [],
    }
    samples = np.concatenate([np.full(200, 1.0), np.full(200, 1.5)]).tolist()
    found = made(
        MeasureSettings(percentile=90, sustained_s=120),
        tmp_path,
        samples_ms=samples,
        rounds=[200, 200],
        runs=4000,
        windows=[seen, seen],
    )
    assert (found.valid, found.reasons) == (True, ())
    assert (found.sustained.slowdown, found.sustained.kept_ratio) == (1.5, 0.1)
