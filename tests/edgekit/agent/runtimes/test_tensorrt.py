"""The runtime `tensorrt`, against fakes that have exactly the names of each real version."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.agent import engine_passport
from edgekit.agent.errors import AgentError
from edgekit.agent.runtimes.cuda import Cuda
from edgekit.agent.runtimes.tensorrt import TensorRT
from tests.edgekit.agent.runtimes.fake_gpu import NETWORK, VERSIONS, FakeCudart

X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
OLD = ("ICudaEngine.num_io_tensors", "IExecutionContext.execute_async_v3", "IExecutionContext.set_tensor_address")


def engine(folder: Path, version: str, content: dict[str, Any] | bytes = NETWORK) -> tuple[Path, dict[str, Any]]:
    """A fake engine's file and the options with its passport."""
    raw = content if isinstance(content, bytes) else json.dumps({**content, "detailed": True}).encode()
    path = folder / "model.engine"
    path.write_bytes(raw)
    with Cuda(library=FakeCudart()) as cuda:
        here = engine_passport.here(cuda.facts(), version)
    return path, {"passport": {**here, "engine_sha256": hashlib.sha256(raw).hexdigest()}}


@pytest.mark.parametrize("version", VERSIONS)
def test_feeds_go_in_and_outputs_come_back(version: str, use_tensorrt: Callable[..., Any], tmp_path: Path):
    use_tensorrt(version)
    path, options = engine(tmp_path, version)
    with TensorRT(path, 1, options) as runtime:
        found = runtime.infer({"x": X})
        again = runtime.infer({"x": X + 1})
        assert runtime.version == version
    assert found["y"].dtype == np.float16
    np.testing.assert_array_equal(found["y"], (X * 2).astype(np.float16))  # not overwritten by the second run
    np.testing.assert_array_equal(again["y"], (X * 2 + 2).astype(np.float16))


def test_before_8_5_tensors_are_known_by_number(use_tensorrt: Callable[..., Any], tmp_path: Path):
    use_tensorrt("8.6.1", without=OLD)
    path, options = engine(tmp_path, "8.6.1", {**NETWORK, "inputs": {"x": {"dtype": "FLOAT", "shape": [-1, 3]}}})
    with TensorRT(path, 1, options) as runtime:
        np.testing.assert_array_equal(runtime.infer({"x": X})["y"], (X * 2).astype(np.float16))


def test_all_gpu_memory_is_given_back(use_tensorrt: Callable[..., Any], cudart: FakeCudart, tmp_path: Path):
    use_tensorrt("10.3.0")
    path, options = engine(tmp_path, "10.3.0")
    with TensorRT(path, 1, options) as runtime:
        runtime.infer({"x": X})
        assert runtime.peak_gpu_bytes == 24 + 12  # (2, 3) of float32 and of float16
        assert runtime.on_gpu
    assert cudart.memory == {}
    assert cudart.streams == 0


def test_a_dynamic_batch_follows_the_feeds_and_keeps_no_old_memory(
    use_tensorrt: Callable[..., Any], cudart: FakeCudart, tmp_path: Path
):
    use_tensorrt("10.3.0")
    dynamic = {
        "inputs": {"x": {"dtype": "FLOAT", "shape": [-1, 3]}},
        "outputs": {"y": {"dtype": "HALF", "shape": [-1, 3]}},
    }
    path, options = engine(tmp_path, "10.3.0", {**NETWORK, **dynamic})
    with TensorRT(path, 1, options) as runtime:
        for batch in (1, 4, 2):
            assert runtime.infer({"x": np.ones((batch, 3), np.float32)})["y"].shape == (batch, 3)
        assert sorted(len(buffer) for buffer in cudart.memory.values()) == [2 * 3 * 2, 2 * 3 * 4]
        with pytest.raises(AgentError) as caught:
            runtime.infer({"x": np.ones((9, 3), np.float32)})
    assert caught.value.what == "input 'x' cannot have shape [9, 3]"
    assert "profile" in caught.value.fix


@pytest.mark.parametrize(
    ("feeds", "what"),
    [
        ({}, "inputs [] given, ['x'] known"),
        ({"x": X.astype(np.float64)}, "input 'x' is float64 [2, 3]"),
        ({"x": X[:1]}, "input 'x' is float32 [1, 3]"),
    ],
)
def test_wrong_feeds_are_refused(feeds: dict[str, Any], what: str, use_tensorrt: Callable[..., Any], tmp_path: Path):
    use_tensorrt("10.3.0")
    path, options = engine(tmp_path, "10.3.0")
    with TensorRT(path, 1, options) as runtime, pytest.raises(AgentError) as caught:
        runtime.infer(feeds)
    assert caught.value.what == what


def test_an_engine_of_another_machine_is_not_loaded_and_every_field_is_named(
    use_tensorrt: Callable[..., Any], cudart: FakeCudart, tmp_path: Path
):
    use_tensorrt("10.3.0")
    path, options = engine(tmp_path, "8.6.1")
    options["passport"].update(sm="7.2", jetpack="5.1.2-b104")
    with pytest.raises(AgentError) as caught:
        TensorRT(path, 1, options).__enter__()
    assert "TensorRT was 8.6.1, is 10.3.0" in caught.value.what
    assert "compute capability (SM) was 7.2, is 8.7" in caught.value.what
    assert "JetPack was 5.1.2-b104, is not available" in caught.value.what
    assert "GPU was" not in caught.value.what
    assert "build the engine again" in caught.value.fix
    assert cudart.streams == 0


def test_an_engine_without_its_passport_is_not_loaded(use_tensorrt: Callable[..., Any], tmp_path: Path):
    use_tensorrt("10.3.0")
    path, options = engine(tmp_path, "10.3.0")
    with pytest.raises(AgentError) as caught:
        TensorRT(path, 1, {}).__enter__()
    assert "no passport" in caught.value.what
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(AgentError) as caught:
        TensorRT(path, 1, options).__enter__()
    assert caught.value.what == "the passport is of another engine"


def test_what_tensorrt_says_is_in_the_error(use_tensorrt: Callable[..., Any], tmp_path: Path):
    use_tensorrt("10.3.0")
    path, options = engine(tmp_path, "10.3.0", b"not an engine")
    with pytest.raises(AgentError) as caught:
        TensorRT(path, 1, options).__enter__()
    assert caught.value.what == "TensorRT 10.3.0 cannot load the engine: magic tag does not match"


def test_a_refused_run_is_an_error(use_tensorrt: Callable[..., Any], tmp_path: Path):
    use_tensorrt("10.3.0")
    path, options = engine(tmp_path, "10.3.0", {**NETWORK, "stubborn": True})
    with TensorRT(path, 1, options) as runtime, pytest.raises(AgentError) as caught:
        runtime.infer({"x": X})
    assert "cannot run the engine" in caught.value.what


def test_a_type_that_numpy_lacks_is_named(use_tensorrt: Callable[..., Any], tmp_path: Path):
    use_tensorrt("10.3.0")
    bf16 = {"outputs": {"y": {"dtype": "BF16", "shape": [2, 3]}}}
    path, options = engine(tmp_path, "10.3.0", {**NETWORK, **bf16})
    with pytest.raises(AgentError) as caught:
        TensorRT(path, 1, options).__enter__()
    assert caught.value.what == "tensor 'y' is of type BF16, which numpy has not"


@pytest.mark.parametrize("version", VERSIONS)
def test_layers_have_times_operators_and_precisions(version: str, use_tensorrt: Callable[..., Any], tmp_path: Path):
    use_tensorrt(version)
    path, options = engine(tmp_path, version)
    with TensorRT(path, 1, options) as runtime:
        rows = runtime.layers({"x": X}, 3)
        runtime.infer({"x": X})  # works as before
    assert rows == [
        {"name": "conv", "operator": "CaskConvolution", "mean_ms": 0.125, "runs": 3, "precision": "int8"},
        {"name": "top", "operator": "CaskConvolution", "mean_ms": 0.25, "runs": 3, "precision": "int8"},
    ]


def test_a_library_that_is_too_old_or_absent_says_what_to_do(
    use_tensorrt: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    use_tensorrt("8.6.1").__version__ = "8.2.1"
    with pytest.raises(AgentError) as caught:
        TensorRT(tmp_path / "e", 1, {})
    assert caught.value.what == "TensorRT is 8.2.1"
    assert "trtexec" in caught.value.fix
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(AgentError) as caught:
        TensorRT(tmp_path / "e", 1, {})
    assert "cannot be loaded" in caught.value.what


def test_an_unknown_option_is_refused(use_tensorrt: Callable[..., Any], tmp_path: Path):
    use_tensorrt("10.3.0")
    with pytest.raises(AgentError) as caught:
        TensorRT(tmp_path / "e", 1, {"pasport": {}})
    assert caught.value.what == "no option is called 'pasport'"
