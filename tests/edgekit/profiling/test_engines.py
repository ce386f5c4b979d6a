"""Building and keeping engines, on a board that is played by the agent's own jobs over fakes."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.agent.errors import AgentError
from edgekit.agent.jobs import run_job
from edgekit.errors import DeviceError
from edgekit.profiling.engines import EngineBuilt, EngineOptions, build_engine, engine_for
from edgekit.profiling.inference import infer
from edgekit.profiling.jobs import profile, profile_interleaved
from edgekit.schema.device import Device
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.profile import MeasureSettings
from edgekit.schema.tensors import ArtifactTensor
from tests.edgekit.agent.runtimes.fake_gpu import NETWORK, FakeCudart, fake_tensorrt

HALF = {**NETWORK, "layers": [{"name": "conv", "type": "CONVOLUTION", "dtype": "HALF"}]}


class FakeSession:
    """A board whose agent runs in this process; TensorRT and GPU are fakes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.jobs = folder, []

    def run(
        self,
        job: Mapping[str, Any],
        files: Mapping[str, Path],
        results: Mapping[str, Path],
        *,
        timeout_s: float,
        on_progress: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        self.jobs.append(json.loads(json.dumps(job)))  # as it travels
        for name, path in files.items():
            shutil.copy(path, self.folder / name)
        try:
            answer = run_job({key: value for key, value in self.jobs[-1].items() if key != "lease"}, self.folder)
        except AgentError as err:
            raise DeviceError(err.what, err.where, err.fix) from err
        for name, path in results.items():
            shutil.copy(self.folder / name, path)
        return json.loads(json.dumps(answer))

    @property
    def kinds(self) -> list[str]:
        return [job["kind"] for job in self.jobs]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    monkeypatch.setattr("edgekit.agent.runtimes.cuda.load_library", FakeCudart)
    return lambda version: monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(version))


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_text(json.dumps(HALF))
    return path


def row_of(path: Path) -> ArtifactRow:
    tensor = ArtifactTensor(name="x", network_name="x", dtype="float32", shape=(2, 3), layout="NC")
    return ArtifactRow(
        format="tensorrt",
        convention="tensorrt",
        path=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size_bytes=path.stat().st_size,
        precision="fp32",
        inputs=(tensor,),
        outputs=(tensor,),
    )


@pytest.fixture
def session(tmp_path: Path) -> FakeSession:
    (tmp_path / "board").mkdir()
    return FakeSession(tmp_path / "board")


OPTIONS = EngineOptions(layer_runs=3)


def kept(tmp_path: Path, session: FakeSession, network: Path, options: EngineOptions = OPTIONS) -> EngineBuilt:
    cache = str(tmp_path / "cache")
    return engine_for(session, network, row_of(network), options, tmp_path / "here", timing_cache_folder=cache)


def test_what_was_built_comes_back_whole(
    use: Callable[[str], None], session: FakeSession, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    use("10.3.0")
    lease = {"who": "me", "wait_s": 1.0}
    built = build_engine(
        session, network, row_of(network), OPTIONS, tmp_path / "here", timing_cache_folder=None, lease=lease
    )
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == [
        "layers.json",
        "model.engine",
        "passport.json",
        "timing.cache",
    ]
    assert built.sha256 == hashlib.sha256(built.path.read_bytes()).hexdigest()
    assert built.passport["tensorrt"] == "10.3.0"
    assert (len(built.layers), built.layers_unavailable) == (1, "")
    assert built.built_because == "no engine yet"
    assert built.progress == "phases"
    its_row = built.row(row_of(network))
    assert (its_row.path, its_row.sha256) == ("model.engine", built.sha256)
    assert its_row.size_bytes == built.path.stat().st_size
    assert built.runtime_options == {"passport": dict(built.passport)}
    assert session.jobs[0]["lease"] == lease
    assert session.jobs[0]["runtime"] == "tensorrt"  # so that the board's Python with TensorRT is taken


def test_an_engine_that_fits_is_not_built_again(
    use: Callable[[str], None], session: FakeSession, network: Path, tmp_path: Path
):
    use("10.3.0")
    first, second = kept(tmp_path, session, network), kept(tmp_path, session, network)
    assert session.kinds == ["compare_passport", "build_engine", "compare_passport"]
    assert (second.built_because, second.seconds) == ("", 0.0)
    assert second.passport == first.passport
    assert second.layers == first.layers


def test_after_an_upgrade_it_is_built_again_and_the_reason_is_named(
    use: Callable[[str], None], session: FakeSession, network: Path, tmp_path: Path
):
    use("10.3.0")
    kept(tmp_path, session, network)
    use("10.13.0")
    again = kept(tmp_path, session, network)
    assert again.built_because == "TensorRT was 10.3.0, is 10.13.0"
    assert again.passport["tensorrt"] == "10.13.0"
    assert kept(tmp_path, session, network).built_because == ""
    assert json.loads((tmp_path / "here/passport.json").read_text())["tensorrt"] == "10.13.0"


def test_other_options_another_file_or_a_damaged_engine_are_reasons(
    use: Callable[[str], None], session: FakeSession, network: Path, tmp_path: Path
):
    use("10.3.0")
    kept(tmp_path, session, network, EngineOptions(precision="fp32", layer_runs=3))
    options = EngineOptions(precision="fp32", layer_runs=3, workspace_bytes=1 << 20, strongly_typed=True)
    found = kept(tmp_path, session, network, options)
    assert found.built_because == "strongly_typed was False, is True; workspace_bytes was None, is 1048576"
    with open(found.path, "ab") as stream:
        stream.write(b" ")
    assert "not the one of its passport" in kept(tmp_path, session, network, options).built_because
    (tmp_path / "here/passport.json").write_text("{")
    assert "no passport that can be read" in kept(tmp_path, session, network, options).built_because
    network.write_text(json.dumps({**HALF, "more": 1}))
    assert "another ONNX file" in kept(tmp_path, session, network, options).built_because
    assert kept(tmp_path, session, network, options).built_because == ""


def test_an_engine_from_before_sparse_weights_were_known_is_one_without_them(
    use: Callable[[str], None], session: FakeSession, network: Path, tmp_path: Path
):
    use("10.3.0")
    kept(tmp_path, session, network)
    passport = tmp_path / "here/passport.json"
    older = {name: value for name, value in json.loads(passport.read_text()).items() if name != "sparse_weights"}
    passport.write_text(json.dumps(older))
    assert kept(tmp_path, session, network).built_because == ""
    again = kept(tmp_path, session, network, EngineOptions(sparse_weights=True))
    assert again.built_because == "sparse_weights was False, is True"
    assert session.jobs[-1]["sparse_weights"]


def test_profiles_survive_the_journey(use: Callable[[str], None], session: FakeSession, network: Path, tmp_path: Path):
    use("10.3.0")
    network.write_text(json.dumps({**HALF, "inputs": {"x": {"dtype": "FLOAT", "shape": [-1, 3]}}}))
    options = EngineOptions(profiles=({"x": {"min": (1, 3), "opt": (2, 3), "max": (4, 3)}},), layer_runs=0)
    first = kept(tmp_path, session, network, options)
    assert first.layers_unavailable == "layer_runs is 0"
    second = kept(tmp_path, session, network, options)
    assert second.built_because == ""  # tuples and lists are the same shapes
    assert second.layers_unavailable == "not timed when the engine was built"


def test_tensorrt_11_is_strongly_typed_without_being_asked_and_that_is_no_reason(
    use: Callable[[str], None], session: FakeSession, network: Path, tmp_path: Path
):
    use("10.3.0")
    options = EngineOptions(precision="fp32", layer_runs=3)
    kept(tmp_path, session, network, options)
    use("11.4.0")
    newer = kept(tmp_path, session, network, options)
    assert newer.passport["strongly_typed"]
    assert newer.built_because == "TensorRT was 10.3.0, is 11.4.0; strongly_typed was False, is True"
    assert kept(tmp_path, session, network, options).built_because == ""


class Newest:
    """A board with TensorRT 11 that keeps what it was sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.names: list[tuple[str, str]] = []

    def run(self, job: Mapping[str, Any], files: Mapping[str, Path], *_: Any, **__: Any) -> dict[str, Any]:
        if job["kind"] == "compare_passport":
            return {"here": {"tensorrt": "11.4.0"}, "differences": []}
        self.sent += [path.read_bytes() for path in files.values()]
        self.names += [(job["artifact"]["path"], job["artifact"]["sha256"])]
        raise DeviceError("that was all", "board", "none")


def test_fp16_for_tensorrt_11_is_built_from_a_float16_copy(tmp_path: Path):
    weight = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        [weight],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    board = Newest()
    for precision in ("fp32", "fp16", "fp16"):
        with pytest.raises(DeviceError):
            engine_for(board, path, row_of(path), EngineOptions(precision=precision), tmp_path / "here")
    first, second, third = board.sent
    assert first == path.read_bytes()
    assert second == third  # the same bytes, so an engine built from it can be found again
    assert onnx.load_from_string(second).graph.initializer[0].data_type == TensorProto.FLOAT16
    assert board.names[1] == ("model.float16.onnx", hashlib.sha256(second).hexdigest())
    half = tmp_path / "here" / "model.float16.onnx"
    with pytest.raises(DeviceError):  # what computes in float16 already is taken as it is
        engine_for(board, half, row_of(half), EngineOptions(), tmp_path / "there")
    assert board.sent[3] == second
    assert not (tmp_path / "there").exists() or not list((tmp_path / "there").iterdir())


def test_a_board_that_refuses_is_an_error(
    use: Callable[[str], None], session: FakeSession, network: Path, tmp_path: Path
):
    use("10.3.0")
    with pytest.raises(DeviceError) as caught:
        kept(tmp_path, session, network, EngineOptions(precision="int8"))
    assert "no Q/DQ" in caught.value.what


class Recorder:
    """A board that notes the job and does nothing."""

    job: Mapping[str, Any]

    def keep(self, name: str, path: Path) -> None: ...

    def run(self, job: Mapping[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        self.job = job
        raise DeviceError("that was all", "board", "none")


def test_an_engines_passport_reaches_what_measures_and_what_infers(network: Path):
    device, board = Device(name="here", target="cpu-x86-64"), Recorder()
    row, options = row_of(network).model_copy(update={"outputs": ()}), {"passport": {"sm": "8.7"}}
    two = [(network, row, "tensorrt"), (network, row, "onnxruntime")]
    with pytest.raises(DeviceError):
        profile(device, network, row, "tensorrt", MeasureSettings(batch=2), options=options, session=board)
    assert [case["options"] for case in board.job["cases"]] == [options]
    with pytest.raises(DeviceError):
        profile_interleaved(device, two, MeasureSettings(batch=2), options=[options, {}], session=board)
    assert [case["options"] for case in board.job["cases"]] == [options, {}]
    with pytest.raises(DeviceError):
        profile_interleaved(device, two, MeasureSettings(batch=2), session=board)
    assert [case["options"] for case in board.job["cases"]] == [{}, {}]
    x = {"x": np.zeros((2, 3), np.float32)}
    with pytest.raises(DeviceError):
        infer(device, network, row, "tensorrt", x, {"x": "NC"}, options=options, session=board)
    assert board.job["options"] == options
