"""Which of an integer artifact and its float version ships, on measurements with exact times."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgekit.pipeline.artifacts import Exported
from edgekit.pipeline.choose import choose_variants
from edgekit.pipeline.measure import HALF, SAME, Measured
from edgekit.pipeline.plan import PlannedArtifact
from edgekit.pipeline.speed import keep_faster
from edgekit.profiling.statistics import summarise
from edgekit.schema.gates import Bound
from edgekit.schema.load import load_target
from edgekit.schema.manifest import ArtifactRow, SpeedRow
from edgekit.schema.profile import Conditions, MeasureSettings, Profile
from edgekit.schema.recipe import Export

BEFORE = "the network before compression in float32"
SUFFIXES = {"onnx": ".onnx", "tflite": ".tflite"}


def exported(tmp_path: Path, target_name: str = "cpu-x86-64") -> list[Exported]:
    """model.onnx, model.tflite, their float versions and those of the reference, each in a folder of its own."""
    target = load_target(target_name).target
    found = []
    for variant in choose_variants(target, Export(), quantised=True, compare=True, restructured=True):
        path = variant.stem + SUFFIXES[variant.format]
        folder = tmp_path / path
        (folder / "files").mkdir(parents=True)
        (folder / "files" / path).write_bytes(path.encode())
        row = ArtifactRow(
            format=variant.format,
            convention=variant.convention,
            path=path,
            sha256="0" * 64,
            size_bytes={"int8": 100, "fp16": 200, "fp32": 400}[variant.precision],
            precision=variant.precision,
            inputs=(),
            outputs=(),
        )
        planned = PlannedArtifact(variant, SimpleNamespace(key=f"export {path}"), SimpleNamespace(key="run"), False)
        found.append(Exported(planned, row, folder))
    return found


def profile(artifact: str, p50_ms: float) -> Profile:
    return Profile(
        artifact=artifact,
        artifact_sha256="0" * 64,
        device="bench",
        stand_in=False,
        runtime="onnxruntime",
        runtime_version="1",
        agent_version="1",
        settings=MeasureSettings(),
        samples_ms=(p50_ms,) * 100,
        summary=summarise([p50_ms] * 100),
        conditions=Conditions(),
        valid=True,
        measured_at="2026-01-01T00:00:00+00:00",
    )


def row(artifact: str, reference: str, speedup: float, *, stand_in: bool = False) -> SpeedRow:
    verdict = "faster" if speedup > 1.02 else "slower" if speedup < 0.98 else "no significant change"
    return SpeedRow(
        artifact=artifact,
        reference=reference,
        device="bench",
        stand_in=stand_in,
        speedup=speedup,
        low=speedup - 0.01,
        high=speedup + 0.01,
        macs_ratio=1.0,
        verdict=verdict,
    )


def measured(onnx: float, *, stand_in: bool = False) -> Measured:
    """int8 in ONNX is `onnx` times as fast as float, in TFLite twice as fast."""
    return Measured(
        profiles=(profile("model.onnx", 2.0 / onnx), profile("model.tflite", 1.0)),
        references=(profile("model.float.onnx", 2.0), profile("model.float.tflite", 2.0)),
        speed=(
            row("model.onnx", BEFORE, 3 * onnx, stand_in=stand_in),
            row("model.onnx in float32", BEFORE, 3.0, stand_in=stand_in),
            row("model.onnx", SAME, onnx, stand_in=stand_in),
            row("model.tflite", SAME, 2.0, stand_in=stand_in),
        ),
    )


class Notes:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def shipped(files: tuple[Exported, ...]) -> dict[str, str]:
    return {item.row.path: item.row.precision for item in files if item.planned.variant.ships}


def test_a_faster_float_version_takes_the_name_the_profile_and_the_place(tmp_path):
    before, notes = exported(tmp_path), Notes()
    files, found = keep_faster(before, measured(0.93), "fastest", None, notes)
    assert shipped(files) == {"model.onnx": "fp32", "model.tflite": "int8"}
    one = files[0]
    assert one.path.read_bytes() == b"model.float.onnx"
    assert one.files == {"model.onnx": one.path}
    assert one.planned.run is before[2].planned.run
    assert "0.93 times as fast as float32 on bench [0.92, 0.94]" in one.planned.variant.not_int8
    assert "export.ship" in one.planned.variant.not_int8
    assert [(p.artifact, p.summary.p50_ms) for p in found.profiles] == [("model.onnx", 2.0), ("model.tflite", 1.0)]
    assert {p.artifact for p in found.references} == {"model.float.tflite", "model.onnx"}
    assert [(r.artifact, r.reference) for r in found.speed] == [
        ("model.onnx in integers", BEFORE),
        ("model.onnx", BEFORE),
        ("model.onnx in integers", SAME),
        ("model.tflite", SAME),
    ]
    assert "float32 ships instead" in notes.lines[0]


@pytest.mark.parametrize("speedup", [1.5, 1.0])
def test_what_is_not_slower_ships_in_integers(tmp_path, speedup):
    before, notes = exported(tmp_path), Notes()
    files, found = keep_faster(before, measured(speedup), "fastest", None, notes)
    assert files == tuple(before)
    assert found == measured(speedup)
    assert len(notes.lines) == (speedup == 1.0)  # a tie is told of


def test_a_stand_in_decides_nothing(tmp_path):
    before = exported(tmp_path)
    told = measured(0.5, stand_in=True)
    assert keep_faster(before, told, "fastest", None, Notes()) == (tuple(before), told)


def test_the_recipe_may_ask_for_integers_all_the_same(tmp_path):
    before, notes = exported(tmp_path), Notes()
    files, found = keep_faster(before, measured(0.5), "quantised", None, notes)
    assert files == tuple(before)
    (skipped,) = found.skipped
    assert (skipped.what, skipped.where) == ("the faster float32 version", "model.onnx")
    assert "export.ship" in skipped.reason
    assert replace(found, skipped=()) == measured(0.5)


@pytest.mark.parametrize(("limit", "ships"), [(399, "int8"), (400, "fp32")])
def test_a_float_version_above_the_gate_on_size_does_not_ship(tmp_path, limit, ships):
    files, found = keep_faster(exported(tmp_path), measured(0.5), "fastest", Bound(at_most=limit), Notes())
    assert shipped(files)["model.onnx"] == ships
    assert [skipped.reason.endswith("above the gate size_bytes") for skipped in found.skipped] == [True] * (limit < 400)


@pytest.mark.parametrize(
    ("onnx", "half", "ships"),
    [(0.9, 0.8, "fp16"), (0.8, 0.9, "fp32"), (0.9, 1.2, "fp32"), (1.2, 0.9, "fp16"), (1.0, 1.2, "int8")],
)
def test_of_several_faster_versions_the_fastest_ships(tmp_path, onnx, half, ships):
    told = measured(onnx)
    told = replace(
        told,
        references=(*told.references, profile("model.half.onnx", half * 2.0 / onnx)),
        speed=(*told.speed, row("model.onnx", HALF, half)),
    )
    files, found = keep_faster(exported(tmp_path, "cpu-arm64"), told, "fastest", None, Notes())
    assert shipped(files) == {"model.onnx": ships, "model.tflite": "int8"}
    wanted = {"fp16": half * 2.0 / onnx, "fp32": 2.0, "int8": 2.0 / onnx}[ships]
    assert found.profiles[0].summary.p50_ms == pytest.approx(wanted)
    assert found.profiles[0].artifact == "model.onnx"
    assert len(found.references) == 3
    # "in float32" is what ships only where that ships
    assert {r.artifact for r in found.speed} >= ({"model.onnx in float32"} if ships == "fp16" else {"model.onnx"})


def test_weights_made_smaller_alone_are_not_about_speed(tmp_path):
    before = exported(tmp_path)
    before[0] = replace(before[0], row=before[0].row.model_copy(update={"precision": "int4-weights"}))
    assert keep_faster(before, measured(0.3), "fastest", None, Notes()) == (tuple(before), measured(0.3))
