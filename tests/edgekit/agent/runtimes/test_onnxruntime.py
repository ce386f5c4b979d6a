"""ONNX Runtime: layers by its own profiler, and execution providers that are not here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.agent.errors import AgentError
from edgekit.agent.runtimes.cuda import Cuda
from edgekit.agent.runtimes.onnxruntime import OnnxRuntime
from edgekit.agent.runtimes.onnxruntime_gpu import OnnxRuntimeCuda, OnnxRuntimeTensorRT
from edgekit.agent.runtimes.onnxruntime_profile import layer_rows, nodes_of_providers
from tests.edgekit.agent.runtimes.fake_gpu import FakeCudart

X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    weight = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
        helper.make_node("Softmax", ["m"], ["y"], name="top", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_layers_are_the_nodes_in_order_with_their_precision(path: Path):
    with OnnxRuntime(path, 1, {}) as runtime:
        rows = runtime.layers({"x": X}, 5)
        assert [(row["name"], row["operator"], row["precision"], row["runs"]) for row in rows] == [
            ("product", "MatMul", "fp32", 5),
            ("top", "Softmax", "fp32", 5),
        ]
        assert all(row["mean_ms"] >= 0 for row in rows)
        assert runtime.infer({"x": X})["y"].shape == (2, 3)
    assert [entry.name for entry in path.parent.iterdir()] == ["m.onnx"]  # no profile is left behind


def event(name: str, ts: float, dur: float, provider: str = "CPUExecutionProvider", **more: Any) -> dict[str, Any]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": {"provider": provider, **more}}


def test_the_first_run_is_left_out_and_a_loop_body_is_summed():
    events = [
        event("body", 1, 9000.0, op_name="Add", output_type_shape=[{"int8": [1]}]),
        event("body", 2, 9000.0),
        event("end", 3, 9000.0, op_name="Conv"),
        *[event("body", 4 + t, 100.0) for t in range(2)],
        event("end", 7, 500.0),
        *[event("body", 8 + t, 300.0) for t in range(2)],
        event("end", 11, 700.0),
        {"cat": "Session", "name": "model_run", "ts": 0, "dur": 1},
        {"cat": "Node", "name": "body_fence_before", "ts": 0, "dur": 1},
    ]
    assert layer_rows(json.dumps(events), 2) == [
        {"name": "body", "operator": "Add", "mean_ms": 0.4, "runs": 2, "precision": "int8"},
        {"name": "end", "operator": "Conv", "mean_ms": 0.6, "runs": 2, "precision": None},
    ]


def test_nodes_are_told_by_provider():
    events = [
        event("a", 2, 1.0, "CUDAExecutionProvider"),
        event("b", 1, 1.0),
        event("a", 3, 1.0, "CUDAExecutionProvider"),
    ]
    assert nodes_of_providers(json.dumps(events)) == {"CPUExecutionProvider": ["b"], "CUDAExecutionProvider": ["a"]}


@pytest.mark.parametrize(
    ("kind", "provider"),
    [(OnnxRuntimeCuda, "CUDAExecutionProvider"), (OnnxRuntimeTensorRT, "TensorrtExecutionProvider")],
)
def test_a_provider_that_is_not_there_is_an_error(kind: type[OnnxRuntimeCuda], provider: str, path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    if provider in onnxruntime.get_available_providers():
        pytest.skip(f"this ONNX Runtime has {provider}")
    with pytest.raises(AgentError) as caught:
        kind(path, 1, {}).__enter__()
    assert f"has no {provider}" in caught.value.what
    assert "CPUExecutionProvider" in caught.value.fix  # what it has


def _is_strict(options: Any) -> bool:
    try:
        return bool(options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1")
    except RuntimeError:  # not set
        return False


class FakeSession:
    """Stands in for a session of a build with providers that this machine cannot have."""

    whole_network_only = False
    got: list[str]
    retries = True
    made: list[tuple[Any, Any]] = []  # noqa: RUF012

    def __init__(self, path: str, options: Any, providers: Any, enable_fallback: bool) -> None:
        print("EP Error")  # as the real one does
        assert not enable_fallback
        self.made.append((options, providers))
        if self.whole_network_only and _is_strict(options):
            raise RuntimeError("nodes that are assigned to the default CPU EP, but fallback has been disabled")

    def disable_fallback(self) -> None:
        self.retries = False

    def get_providers(self) -> list[str]:
        return self.got


@pytest.fixture
def gpu_build(monkeypatch: pytest.MonkeyPatch) -> type[FakeSession]:
    """ONNX Runtime that says it has CUDA and TensorRT. Sessions are fake and take what FakeSession.got says."""
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(FakeSession, "made", [])
    monkeypatch.setattr(onnxruntime, "InferenceSession", FakeSession)
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    )
    return FakeSession


@pytest.mark.parametrize("strict", [False, True])
def test_a_silent_fall_back_to_the_cpu_is_an_error(
    strict: bool,
    gpu_build: type[FakeSession],
    cudart: FakeCudart,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(gpu_build, "got", ["CPUExecutionProvider"], raising=False)
    monkeypatch.setattr(gpu_build, "whole_network_only", strict)
    with pytest.raises(AgentError) as caught:
        OnnxRuntimeCuda(path, 1, {}).__enter__()
    assert "could not start CUDAExecutionProvider and took CPUExecutionProvider instead" in caught.value.what
    assert "LD_LIBRARY_PATH" in caught.value.fix
    assert cudart.streams == 0
    assert capsys.readouterr().out == ""  # that is the progress's


def test_a_network_that_the_provider_has_not_all_of_is_an_error(
    gpu_build: type[FakeSession], cudart: FakeCudart, path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gpu_build, "got", ["CUDAExecutionProvider"], raising=False)
    monkeypatch.setattr(gpu_build, "whole_network_only", True)
    with pytest.raises(AgentError) as caught:
        OnnxRuntimeCuda(path, 1, {}).__enter__()
    assert caught.value.what.startswith("CUDAExecutionProvider cannot run all of the network")
    assert "fall_back" in caught.value.fix
    with OnnxRuntimeCuda(path, 1, {"fall_back": ["CPUExecutionProvider"]}) as runtime:
        assert not runtime._session.retries  # nor does it go to the CPU while it runs


def test_single_nodes_may_not_go_to_the_cpu_unless_that_was_asked(
    gpu_build: type[FakeSession], cudart: FakeCudart, path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gpu_build, "got", ["TensorrtExecutionProvider"], raising=False)
    given = {"device": 0, "provider_options": {"trt_fp16_enable": True}}
    with OnnxRuntimeTensorRT(path, 1, given) as runtime:
        assert runtime.peak_gpu_bytes == 0
        options, providers = gpu_build.made[-1]
        assert _is_strict(options)
        assert providers == [("TensorrtExecutionProvider", {"device_id": "0", "trt_fp16_enable": "True"})]
        with Cuda(library=cudart) as other:
            other.allocate(500)
            assert runtime.peak_gpu_bytes == 500
        assert runtime.peak_gpu_bytes == 500  # the most, not the latest
    allowed = {**given, "fall_back": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
    with OnnxRuntimeTensorRT(path, 1, allowed):
        options, providers = gpu_build.made[-1]
        assert not _is_strict(options)
        assert providers[1:] == ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_gpu_memory_that_cannot_be_read_is_said(
    gpu_build: type[FakeSession], cudart: FakeCudart, path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gpu_build, "got", ["CUDAExecutionProvider"], raising=False)
    cudart.fails["cudaMemGetInfo"] = 2
    with OnnxRuntimeCuda(path, 1, {}) as runtime:
        assert runtime.peak_gpu_bytes is None
        assert runtime.gpu_memory_unavailable.startswith("not available: cudaMemGetInfo")
        assert "launch" in runtime.layers_unavailable


def test_an_unknown_option_is_refused(path: Path):
    with pytest.raises(AgentError) as caught:
        OnnxRuntime(path, 1, {"device": 1})
    assert caught.value.what == "no option is called 'device'"


@pytest.mark.gpu
def test_the_cuda_provider_agrees_with_the_cpu(path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDAExecutionProvider")
    with OnnxRuntime(path, 1, {}) as cpu, OnnxRuntimeCuda(path, 1, {}) as gpu:
        expected = cpu.infer({"x": X})["y"]
        np.testing.assert_allclose(gpu.infer({"x": X})["y"], expected, rtol=1e-3, atol=1e-5)  # TF32 on Ampere and later
        assert gpu.placement({"x": X}).keys() == {"CUDAExecutionProvider"}
