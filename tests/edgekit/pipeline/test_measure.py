import platform
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgekit.errors import DeviceError
from edgekit.pipeline.choose import choose_variants, stand_in_for
from edgekit.pipeline.measure import measure_on
from edgekit.pipeline.progress import Silent
from edgekit.profiling.statistics import summarise
from edgekit.schema.device import Device
from edgekit.schema.load import load_target
from edgekit.schema.profile import Conditions, Profile
from edgekit.schema.recipe import Export

LOCAL = Device(name="bench", target="cpu-x86-64")
P50_MS = {"model.onnx": 1.0, "model.float.onnx": 2.0, "model.tflite": 3.0, "model.float.tflite": 3.0}
P50_MS |= {"model.reference.onnx": 5.0, "model.reference.tflite": 2.0}
P50_MS |= {"model.half.onnx": 0.5, "model.half.tflite": 6.0}


def exported(target_name: str, *, restructured: bool = False):
    target = load_target(target_name).target
    variants = choose_variants(target, Export(), quantised=True, compare=True, restructured=restructured)
    suffixes = {"onnx": ".onnx", "tflite": ".tflite", "tensorrt": ".onnx"}
    return target, [
        SimpleNamespace(
            planned=SimpleNamespace(variant=variant),
            row=SimpleNamespace(path=variant.stem + suffixes[variant.format], format=variant.format, two_of_four=1),
            path=Path(variant.stem + suffixes[variant.format]),
        )
        for variant in variants
    ]


class Bench:
    """Answers with exact times, and notes what it was asked."""

    def __init__(self, broken: str = "", *, slow: bool = False) -> None:
        self.slow = slow
        self.asked: list[tuple[str, str, int, str | None]] = []
        self.broken = broken

    def one(self, device, path, row, runtime, settings, *, stand_in_for, lower_percentile, session, on_progress):
        assert session.device is device
        on_progress({"done": 1, "total": 2})
        if path.name == self.broken:
            raise DeviceError("no reply in 30 s", "device bench", "switch it on")
        self.asked.append((path.name, runtime, settings.threads, stand_in_for))
        settings = settings.model_copy(update={"percentile": lower_percentile} if self.slow else {})
        samples = tuple([P50_MS[path.name]] * 1000)
        return Profile(
            artifact=path.name,
            artifact_sha256="0" * 64,
            device=device.name,
            stand_in=stand_in_for is not None,
            stand_in_for=stand_in_for,
            runtime=runtime,
            runtime_version="1",
            agent_version="1",
            settings=settings,
            samples_ms=samples,
            summary=summarise(samples),
            conditions=Conditions(),
            valid=stand_in_for is None,
            measured_at="2026-01-01T00:00:00+00:00",
        )

    def several(self, device, artifacts, settings, **how):
        return [self.one(device, p, r, runtime, settings, **how) for p, r, runtime in artifacts]


def on(bench: Bench, device: Device, target, files, **how):
    session, instead_of = SimpleNamespace(device=device), stand_in_for(device, target)
    given = (session, instead_of, target, files, 0.5, 1, how.pop("reporter", Silent()))
    return measure_on(*given, profile=bench.one, profile_interleaved=bench.several)


def measured(target_name: str, bench: Bench, device: Device = LOCAL):
    target, files = exported(target_name)
    return on(bench, device, target, files)


def test_every_artifact_is_measured_beside_its_own_float_version():
    bench = Bench()
    found = measured("cpu-x86-64", bench)
    assert [name for name, *_ in bench.asked] == [
        "model.float.onnx",
        "model.onnx",
        "model.float.tflite",
        "model.tflite",
    ]
    assert [profile.artifact for profile in found.profiles] == ["model.onnx", "model.tflite"]
    assert [profile.artifact for profile in found.references] == ["model.float.onnx", "model.float.tflite"]
    onnx, tflite = found.speed
    assert (onnx.speedup, onnx.verdict, onnx.macs_ratio, onnx.stand_in) == (2.0, "faster", 0.5, False)
    assert (tflite.speedup, tflite.verdict) == (1.0, "no significant change")
    assert not found.failed


def test_a_device_of_another_target_is_a_stand_in_and_runs_what_it_has():
    bench = Bench()
    found = measured("raspberry-pi-zero-2w", bench)
    assert all(stand_in == "raspberry-pi-zero-2w" for *_, stand_in in bench.asked)
    assert {runtime for _, runtime, *_ in bench.asked} <= {"onnxruntime", "litert"}
    assert all(profile.stand_in for profile in found.profiles)
    assert all(row.stand_in for row in found.speed)


def test_this_machine_is_no_device_of_another_architecture_whatever_its_entry_says(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    found = measured("cpu-x86-64", Bench(), LOCAL)
    assert {profile.stand_in_for for profile in found.profiles} == {"cpu-x86-64"}
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")
    assert not any(profile.stand_in for profile in measured("cpu-x86-64", Bench(), LOCAL).profiles)


def test_one_artifact_that_fails_leaves_a_reason_and_the_others_are_measured():
    found = measured("cpu-x86-64", Bench(broken="model.onnx"))
    assert found.failed
    assert [profile.artifact for profile in found.profiles] == ["model.tflite"]
    assert found.skipped[0].reason == "no reply in 30 s; switch it on"


def test_a_board_too_slow_for_a_percentile_leaves_it_out_and_says_so():
    found = measured("cpu-x86-64", Bench(slow=True))
    assert [(row.what, row.where) for row in found.skipped] == [
        ("p99", "model.onnx on bench"),
        ("p99", "model.tflite on bench"),
    ]
    assert not found.failed


def test_threads_are_the_targets():
    bench = Bench()
    target, _ = exported("raspberry-pi-5")
    measured("raspberry-pi-5", bench)
    assert {threads for _, _, threads, _ in bench.asked} == {target.threads}


@pytest.mark.parametrize("name", ["cpu-x86-64", "jetson"])
def test_notes_say_whether_it_stood_in(name):
    lines = []
    reporter = SimpleNamespace(task=Silent().task, note=lines.append)
    target, files = exported(name)
    bench = Bench()
    on(bench, LOCAL, target, files, reporter=reporter)
    assert ("stand-in for jetson-orin-nano" in lines[0]) == (name == "jetson")
    assert "2.00 times as fast as the same network in float32" in lines[0]


def test_where_the_target_computes_in_float16_that_is_compared_with_too():
    found = measured("raspberry-pi-5", Bench(), Device(name="pi", target="raspberry-pi-5", stand_in_for=None))
    same, half = "the same network in float32", "the same network in float16"
    assert {(r.artifact, r.reference): (r.speedup, r.verdict) for r in found.speed} == {
        ("model.onnx", same): (2.0, "faster"),
        ("model.onnx", half): (0.5, "slower"),
        ("model.tflite", same): (1.0, "no significant change"),
        ("model.tflite", half): (2.0, "faster"),
    }


def test_a_new_structure_and_quantisation_are_each_told_what_they_gave():
    target, files = exported("cpu-x86-64", restructured=True)
    bench = Bench()
    found = on(bench, LOCAL, target, files)
    before, same = "the network before compression in float32", "the same network in float32"
    assert [(r.artifact, r.reference, r.speedup, r.macs_ratio, r.verdict) for r in found.speed] == [
        ("model.onnx", before, 5.0, 0.5, "faster"),
        ("model.onnx in float32", before, 2.5, 0.5, "faster"),
        ("model.onnx", same, 2.0, 1.0, "faster"),
        ("model.tflite", before, pytest.approx(2 / 3), 0.5, "slower"),
        ("model.tflite in float32", before, pytest.approx(2 / 3), 0.5, "slower"),
        ("model.tflite", same, 1.0, 1.0, "no significant change"),
    ]
    assert [profile.artifact for profile in found.profiles] == ["model.onnx", "model.tflite"]
    assert len(found.references) == 4


def test_an_engine_is_measured_with_its_passport_in_its_artifacts_name(monkeypatch):
    seen = {}
    target, files = exported("jetson")
    engine = SimpleNamespace(
        path=Path("kept/model.engine"), runtime_options={"passport": {"sm": "8.7"}}, row=lambda row: "the engine's row"
    )
    bench = Bench()

    def one(device, path, row, runtime, settings, *, options=None, **how):
        if options:
            seen.update(path=path, row=row, runtime=runtime, options=options)
        return bench.one(device, Path("model.onnx") if options else path, row, runtime, settings, **how)

    orin = Device(name="orin", target="jetson-orin-nano", transport="ssh", address="orin")
    session, engines = SimpleNamespace(device=orin), {"model.tensorrt.onnx": engine}
    found = measure_on(
        session, None, target, files, 0.5, 1, Silent(), engines, profile=one, profile_interleaved=bench.several
    )
    assert seen == {
        "path": Path("kept/model.engine"),
        "row": "the engine's row",
        "runtime": "tensorrt",
        "options": {"passport": {"sm": "8.7"}},
    }
    assert [profile.artifact for profile in found.profiles] == ["model.tensorrt.onnx", "model.onnx", "model.tflite"]


def test_a_board_too_old_for_the_agent_is_measured_by_its_trtexec():
    target, files = exported("jetson-nano")
    bench, asked = Bench(), []

    def by_trtexec(device, transport, path, row, options, settings):
        asked.append((transport, path.name, options.precision, options.sparse_weights))
        how = {"stand_in_for": None, "lower_percentile": None, "session": session, "on_progress": lambda _: None}
        return bench.one(device, Path("model.onnx"), row, "trtexec", settings, **how)

    nano = Device(name="nano", target="jetson-nano", transport="ssh", address="nano")
    session = SimpleNamespace(device=nano, transport="its transport")
    given = (session, None, target, files, 0.5, 1, Silent())
    found = measure_on(*given, profile=bench.one, profile_interleaved=bench.several, profile_by_trtexec=by_trtexec)
    assert asked == [("its transport", "model.tensorrt.onnx", "fp16", True)]
    assert "trtexec" in {profile.runtime for profile in found.profiles}


def test_what_is_stored_is_not_measured_again_and_says_when_it_was():
    target, files = exported("cpu-x86-64")
    bench, lines = Bench(), []
    first = on(bench, LOCAL, target, files)
    asked = len(bench.asked)
    kept = {profile.artifact: profile for profile in (*first.profiles, *first.references)}

    def stored(artifacts, settings):
        return [kept[path.name] for path, _, _ in artifacts] if artifacts[-1][0].name == "model.onnx" else None

    session = SimpleNamespace(device=LOCAL)
    reporter = SimpleNamespace(task=Silent().task, note=lines.append)
    given = (session, None, target, files, 0.5, 1, reporter)
    again = measure_on(*given, stored=stored, profile=bench.one, profile_interleaved=bench.several)
    assert [name for name, *_ in bench.asked[asked:]] == ["model.float.tflite", "model.tflite"]
    assert again.speed == first.speed
    assert "measured" in lines[0]
    assert lines[0].endswith("h ago")
    assert "ago" not in lines[1]
