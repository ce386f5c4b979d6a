from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.errors import BundleError, DeviceError, SchemaError
from edgekit.pipeline.profile import ProfileRequest, profile_artifacts
from edgekit.profiling.statistics import summarise
from edgekit.release.bundle import read_manifest, write_bundle
from edgekit.schema.profile import Conditions, MeasureSettings, Profile
from edgekit.store.builds import read_builds
from edgekit.store.history import read_history
from edgekit.store.profiles import ProfileStore

DEVICES = """
devices:
  - {name: local, target: cpu-x86-64}
  - {name: orin, target: jetson-orin-nano, transport: ssh, address: orin.lab}
  - {name: pi, target: raspberry-pi-5, transport: ssh, address: pi.lab}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices.yaml").write_text(DEVICES)
    return tmp_path


@pytest.fixture
def bundle(here: Path, draft_of: Any) -> Path:
    return write_bundle(here / "dist", "kws", draft_of())


class Board:
    """Measures nothing, remembers what it was asked; fails for artifacts of some names."""

    def __init__(self, fails: tuple[str, ...] = ()) -> None:
        self.fails, self.asked = fails, []

    def __call__(self, device, path, row, runtime, settings, *, stand_in_for, options, session, on_progress) -> Profile:
        assert session == f"session on {device.name}"
        self.asked.append((device.name, path.name, runtime, settings, stand_in_for, options))
        on_progress({"stage": "measuring", "done": 1, "total": 2})
        if path.name in self.fails:
            raise DeviceError("no reply", f"device {device.name}", "look at it")
        samples = (1.0,) * 200
        return Profile(
            artifact=path.name,
            artifact_sha256=row.sha256,
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
            valid=True,
            measured_at="2026-01-01T00:00:00.000+00:00",
        )


@pytest.fixture
def double(here: Path) -> Path:
    """y = x + x at batch 2, without a manifest."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", tensors[:1], tensors[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), here / "double.onnx")
    return here / "double.onnx"


def request_of(path: Path, here: Path, **changes: Any) -> ProfileRequest:
    settings = MeasureSettings(percentile=90, fps=30)
    return ProfileRequest(
        **{"path": path, "device": "local", "settings": settings, "database": here / "p.sqlite", **changes}
    )


class Reached(str):
    """A session that says that it runs on an arm64 machine, or in an emulator."""

    emulated = ""

    def run(self, job, files, results, **_) -> dict[str, str]:
        assert job == {"kind": "describe"}
        return {"machine": "aarch64", "emulated": self.emulated}


def session(device):
    return nullcontext(Reached(f"session on {device.name}"))


def test_every_artifact_of_a_bundle_is_measured_with_what_the_devices_target_runs(here: Path, bundle: Path):
    board, told = Board(), []
    report = profile_artifacts(
        request_of(bundle, here),
        lambda title, fields: told.append((title, dict(fields))),
        profile=board,
        session_on=session,
    )
    assert [(asked[1], asked[2]) for asked in board.asked] == [
        ("model.onnx", "onnxruntime"),
        ("model.fp32.onnx", "onnxruntime"),
    ]
    assert all(asked[3].fps == 30 and asked[3].percentile == 90 for asked in board.asked)
    assert ("measuring model.onnx on local", {"stage": "measuring", "done": 1, "total": 2}) in told
    with ProfileStore(here / "p.sqlite") as store:
        assert [found.artifact for found in store.all()] == ["model.onnx", "model.fp32.onnx"]
        manifest = read_manifest(bundle)
        lines = [(line.recipe, line.target, line.build, line.precision) for line in read_history(store.database)]
        origin = (manifest.recipe.name, manifest.target.name, manifest.content_digest)
        assert set(lines) == {(*origin, "int8"), (*origin, "fp32")}
        assert [build.digest for build in read_builds(store.database)] == [manifest.content_digest]
    assert [found.artifact for found in report.profiles] == ["model.onnx", "model.fp32.onnx"]


def test_one_artifact_that_fails_does_not_stop_the_others(here: Path, bundle: Path):
    report = profile_artifacts(request_of(bundle, here), session_on=session, profile=Board(fails=("model.onnx",)))
    assert [found.artifact for found in report.profiles] == ["model.fp32.onnx"]
    assert [(row.where, row.reason) for row in report.skipped if "model.onnx " in row.where] == [
        ("model.onnx on local", "no reply; look at it")
    ]
    assert report.failed


def test_a_device_of_another_target_is_a_stand_in(here: Path, bundle: Path):
    board = Board()
    profile_artifacts(request_of(bundle, here, device="pi"), profile=board, session_on=session)
    assert {asked[4] for asked in board.asked} != {None}


def test_a_bare_file_is_described_and_measured(here: Path, double: Path):
    board = Board()
    request = request_of(double, here, threads=3, runtime="onnxruntime-unfused")
    profile_artifacts(request, profile=board, session_on=session)
    ((device, name, runtime, settings, stand_in_for, _),) = board.asked
    assert (device, name, runtime, stand_in_for) == ("local", "double.onnx", "onnxruntime-unfused", None)
    assert (settings.threads, settings.batch) == (3, 2)  # exported at batch 2


def test_the_one_artifact_that_fails_is_an_error(here: Path, double: Path):
    with pytest.raises(DeviceError, match="no reply"):
        profile_artifacts(request_of(double, here), session_on=session, profile=Board(fails=("double.onnx",)))


def test_what_cannot_be_measured_is_refused(here: Path, bundle: Path):
    with pytest.raises(SchemaError, match="says its own shapes"):
        profile_artifacts(request_of(bundle, here, shapes={"x": [1]}), session_on=session, profile=Board())
    (here / "empty").mkdir()
    with pytest.raises(BundleError):
        profile_artifacts(request_of(here / "empty", here), session_on=session, profile=Board())
    with pytest.raises(DeviceError, match="no device is called 'nope'"):
        profile_artifacts(request_of(bundle, here, device="nope"), session_on=session, profile=Board())


def test_what_tensorrt_runs_is_built_on_the_board_first(here: Path, bundle: Path):
    built, board, told = [], Board(), []

    def engine_for(session, path, row, options, folder, *, lease, on_progress):
        built.append((session, path.name, options.precision, folder.parts[:2]))
        assert lease["who"]
        on_progress({"stage": "building", "done": 1, "total": 4})
        return SimpleNamespace(
            path=here / "model.engine",
            row=lambda row: row.model_copy(update={"path": "model.engine", "sha256": "e" * 64}),
            runtime_options={"passport": {"sm": "8.7"}},
        )

    report = profile_artifacts(
        request_of(bundle, here, device="orin"),
        lambda title, fields: told.append((title, dict(fields))),
        profile=board,
        engine_for=engine_for,
        session_on=session,
    )
    assert built == [("session on orin", "model.tensorrt.onnx", "int8", (".edgekit", "engines"))]
    (engine,) = (asked for asked in board.asked if asked[2] == "tensorrt")
    assert (engine[1], engine[4], engine[5]) == ("model.engine", None, {"passport": {"sm": "8.7"}})
    assert ("building the engine of model.tensorrt.onnx on orin", {"stage": "building", "done": 1, "total": 4}) in told
    assert not report.failed
    assert report.skipped == ()


def test_where_there_is_no_tensorrt_nothing_stands_in_for_it_unasked(here: Path, bundle: Path):
    report = profile_artifacts(request_of(bundle, here), profile=Board(), session_on=session)
    assert [row.reason for row in report.skipped] == [
        "local has no TensorRT; --runtime names what should stand in for it"
    ]
    assert not report.failed


def test_a_board_that_is_an_emulator_is_a_stand_in_whatever_its_entry_says(here: Path, double: Path, monkeypatch):
    board = Board()
    monkeypatch.setattr(Reached, "emulated", "aarch64 on x86, by /proc/cpuinfo")
    profile_artifacts(request_of(double, here, device="pi"), profile=board, session_on=session)
    assert {asked[4] for asked in board.asked} == {"raspberry-pi-5"}
