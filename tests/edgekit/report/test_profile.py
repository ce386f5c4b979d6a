import io
from typing import Any

from rich.console import Console

from edgekit.profiling.statistics import summarise
from edgekit.report.profile import energy_text, print_profiles
from edgekit.schema.manifest import Skipped
from edgekit.schema.profile import (
    Cadence,
    Conditions,
    Energy,
    LayerRow,
    MeasureSettings,
    MinuteRow,
    Profile,
    Sustained,
)

CONDITIONS = Conditions(
    cpu="",
    architecture="aarch64",
    clock_mhz_start=1500.0,
    clock_mhz_min=600.0,
    clock_mhz_end=1510.0,
    gpu_clock_mhz_start=625.0,
    gpu_clock_mhz_min=306.0,
    governor="schedutil",
    power_mode="15W",
    clocks_pinned=False,
    temp_c_start=50.0,
    temp_c_max=86.5,
    throttled=True,
    throttled_by=("oc3 (instantaneous over-current): 7 times",),
    throttle_source="soctherm_oc",
    extra={"board": "NVIDIA Jetson Orin Nano"},
)
SAMPLES = tuple(1.0 + 0.001 * (i % 7) for i in range(1000))


def profile_of(**changes: Any) -> Profile:
    fields: dict[str, Any] = {
        "artifact": "model.onnx",
        "artifact_sha256": "0" * 64,
        "device": "orin-bench",
        "stand_in": False,
        "runtime": "onnxruntime",
        "runtime_version": "1.31.1",
        "agent_version": "1",
        "settings": MeasureSettings(threads=6),
        "samples_ms": SAMPLES,
        "summary": summarise(SAMPLES),
        "conditions": CONDITIONS,
        "peak_rss_bytes": 67_700_000,
        "gpu_memory_unavailable": "the runtime runs on the processor",
        "energy": Energy(unavailable="no power sensor is known here"),
        "valid": False,
        "reasons": ("throttled",),
        "measured_at": "2026-01-01T00:00:00.000+00:00",
    }
    return Profile(**{**fields, **changes})


def shown(*profiles: Profile, skipped: tuple[Skipped, ...] = ()) -> str:
    stream = io.StringIO()
    print_profiles(Console(file=stream, width=200, highlight=False), profiles, skipped)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def test_the_table_has_times_memory_and_the_verdict():
    text = shown(profile_of())
    (row,) = (line for line in text.splitlines() if line.strip().startswith("model.onnx  orin-bench"))
    assert row.split()[:4] == ["model.onnx", "orin-bench", "onnxruntime", "1.31.1"]
    assert "1.003" in row
    assert "67.7" in row
    assert row.endswith("INVALID: throttled")


def test_conditions_of_the_run_itself_are_shown():
    text = shown(profile_of())
    assert "600 MHz lowest while it ran, 1500 MHz before, 1510 MHz after" in text
    assert "GPU 306 MHz lowest while it ran, 625 MHz before" in text
    assert "clocks not pinned, power mode 15W" in text
    assert "86.5 °C highest while it ran" in text
    assert "throttled: yes: oc3 (instantaneous over-current): 7 times (soctherm_oc)" in text
    assert "NVIDIA Jetson Orin Nano, aarch64" in text


def test_what_is_not_available_says_so_and_why():
    text = shown(profile_of(conditions=Conditions(), valid=True, reasons=()))
    assert "temperature: not available" in text
    assert "throttled: not available: nothing on this device tells it" in text
    assert "energy: above idle not available: no power sensor is known here" in text
    assert "GPU memory: not available: the runtime runs on the processor" in text
    assert "VALID" in text


def test_a_stand_in_is_labelled_in_the_table_and_above_its_facts():
    text = shown(profile_of(stand_in=True, stand_in_for="jetson-orin-nano"))
    assert "model.onnx on orin-bench (stand-in for jetson-orin-nano)" in text
    assert "stand-in" in [line.strip() for line in text.splitlines()]


def test_energy_names_its_meter_and_what_it_does_not_see():
    energy = Energy(
        source="PMIC of the Raspberry Pi 5",
        rails=("VDD_CORE", "DDR"),
        note="USB devices are not in it",
        idle_w=2.5,
        load_w=6.0,
        energy_per_inference_mj=3.5,
        gross_per_inference_mj=6.0,
    )
    text = energy_text(energy)
    assert text.startswith(
        "3.5 mJ above idle; 6 mJ in all (6 W, 2.5 W idle); PMIC of the Raspberry Pi 5: VDD_CORE, DDR"
    )
    assert text.endswith("USB devices are not in it")
    assert energy_text(None) == "not available: measured before edgekit measured energy"


def test_deadlines_minutes_and_layers():
    minutes = (
        MinuteRow(seconds=60.0, runs=1000, p50_ms=1.0, p90_ms=1.1, temp_c_max=60.0, throttled=False, missed=2),
        MinuteRow(seconds=60.0, runs=900, p50_ms=1.2, p90_ms=1.3, throttled=True, throttled_by=("throttled",)),
    )
    layers = tuple(
        LayerRow(name=f"conv_{i}", operator="Conv", mean_ms=0.1 * (25 - i), ratio=(25 - i) / 325, runs=50)
        for i in range(25)
    )
    found = profile_of(
        settings=MeasureSettings(fps=30, sustained_s=120, layers=True),
        cadence=Cadence(fps=30.0, due=400, missed=10, dropped=4),
        sustained=Sustained(minutes=minutes, slowdown=1.2, low=1.18, high=1.22, kept_ratio=0.05),
        layers=layers,
    )
    text = shown(found)
    assert "one inference each 1/30 s for 2 min" in text
    assert "deadlines: 10 of 400 frames missed (2.5 %), 4 of them never looked at" in text
    assert "last minute / first: 1.200 [1.180, 1.220] times the p50; 5 % of the runs kept as samples" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["1", "1,000", "1", "1.1", "60", "–", "–", "2", "no"] in rows
    assert ["2", "900", "1.2", "1.3", "–", "–", "–", "–", "throttled"] in rows
    assert "layers: sum 32.5 ms beside a mean of 1.003 ms without a profiler, ratio 32.40" in text
    assert ["conv_0", "Conv", "–", "2.5", "7.69", "%"] in rows
    assert any(row[:2] == ["5", "more"] for row in rows)  # 20 are shown


def test_what_could_not_be_measured_is_listed():
    row = Skipped(what="latency", where="model.tensorrt.onnx on orin-bench", reason="its engine is built on the board")
    text = shown(skipped=(row,))
    assert "Not measured" in text
    assert "its engine is built on the board" in text
