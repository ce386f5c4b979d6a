"""From the host to a built and measured engine and back, through a real session, agent and processes.

The board's Python has stand-ins for TensorRT and CUDA in it (`fake_gpu`), so every number here is made up; what is
tested is that options, passports, files and progress arrive where they should.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.devices.session import AgentSession, lease_request
from edgekit.errors import DeviceError
from edgekit.profiling.engines import EngineOptions, engine_for
from edgekit.profiling.inference import infer
from edgekit.profiling.jobs import profile
from edgekit.schema.device import Device
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.profile import MeasureSettings
from edgekit.schema.tensors import ArtifactTensor
from tests.edgekit.agent.runtimes.fake_gpu import NETWORK

ROOT = Path(__file__).parents[3]
PYTHON = f"""#!{sys.executable}
import ctypes, runpy, sys

sys.path.insert(0, {str(ROOT)!r})
from tests.edgekit.agent.runtimes.fake_gpu import FakeCudart, fake_tensorrt

sys.path.remove({str(ROOT)!r})  # the agent's own edgekit, not this one
real = ctypes.CDLL
ctypes.CDLL = lambda name, *more, **options: FakeCudart() if "cudart" in str(name) else real(name, *more, **options)
sys.modules["tensorrt"] = fake_tensorrt("VERSION")
sys.argv = [word for word in sys.argv[1:] if word != "-E"]
sys.path.insert(0, sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""
NETWORK_HERE = {
    **NETWORK,
    "outputs": {"y": {"dtype": "FLOAT", "shape": [2, 3]}},
    "layers": [{"name": "conv", "type": "CONVOLUTION", "dtype": "HALF"}],
}


def tensor(name: str) -> ArtifactTensor:
    return ArtifactTensor(name=name, network_name=name, dtype="float32", shape=(2, 3), layout="NC")


def board(folder: Path, version: str) -> Device:
    python = folder / f"python-{version}"
    python.write_text(PYTHON.replace("VERSION", version))
    python.chmod(0o755)
    return Device(name="board", target="nvidia-gpu", python_of={"tensorrt": str(python)})


@pytest.fixture
def onnx(tmp_path: Path) -> tuple[Path, ArtifactRow]:
    path = tmp_path / "model.onnx"
    path.write_text(json.dumps(NETWORK_HERE))
    row = ArtifactRow(
        format="tensorrt",
        convention="tensorrt",
        path=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size_bytes=path.stat().st_size,
        precision="fp32",
        inputs=(tensor("x"),),
        outputs=(tensor("y"),),
    )
    return path, row


def test_an_engine_is_built_measured_and_run_on_its_board(onnx: tuple[Path, ArtifactRow], tmp_path: Path):
    device, told = board(tmp_path, "10.3.0"), []
    options = EngineOptions(layer_runs=2)
    building = {"timing_cache_folder": str(tmp_path / "cache"), "lease": lease_request(), "on_progress": told.append}
    settings = MeasureSettings(
        batch=2, warmup_ms=1, warmup_runs=1, duration_s=0.05, min_runs=20, percentile=50.0, idle_s=0.0, layers=True
    )
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    with AgentSession(device) as session:
        built = engine_for(session, *onnx, options, tmp_path / "here", **building)
        row = built.row(onnx[1])
        given: dict[str, Any] = {"options": built.runtime_options, "session": session}
        found = profile(device, built.path, row, "tensorrt", settings, **given)
        answer = infer(device, built.path, row, "tensorrt", {"x": x}, {"x": "NC"}, **given)
        with pytest.raises(DeviceError) as caught:
            profile(device, built.path, row, "tensorrt", settings, session=session)
    assert "no passport" in caught.value.what
    stages = [row["stage"].partition(":")[0] for row in told]
    assert [stage for n, stage in enumerate(stages) if stage not in stages[:n]][-3:] == [
        "reading the network",
        "building the engine",
        "timing the layers",
    ]
    assert (found.runtime, found.runtime_version) == ("tensorrt", "10.3.0")
    assert found.artifact_sha256 == built.sha256
    assert len(found.samples_ms) >= 20
    assert [(layer.name, layer.operator, layer.precision) for layer in found.layers] == [
        ("conv", "CaskConvolution", "int8")
    ]
    assert found.peak_gpu_bytes == 2 * 24
    np.testing.assert_array_equal(answer.outputs["y"], 2 * x)


def test_an_upgraded_board_gets_a_new_engine(onnx: tuple[Path, ArtifactRow], tmp_path: Path):
    reasons = []
    for version in ("8.6.1", "8.6.1", "10.13.0"):
        with AgentSession(board(tmp_path, version)) as session:
            built = engine_for(session, *onnx, EngineOptions(), tmp_path / "here", timing_cache_folder=None)
            reasons.append(built.built_because)
    assert reasons == ["no engine yet", "", "TensorRT was 8.6.1, is 10.13.0"]
