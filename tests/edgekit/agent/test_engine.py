"""The job `build_engine`, against fakes that have exactly the names of each real version of TensorRT."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.agent.engine import build_engine, compare_passport
from edgekit.agent.errors import AgentError
from edgekit.agent.runtimes.tensorrt import TensorRT
from tests.edgekit.agent.runtimes.fake_gpu import NETWORK, QUANTISED, VERSIONS, FakeCudart

Build = Callable[..., dict[str, Any]]
Use = Callable[..., Any]
HALF = {**NETWORK, "layers": [{"name": "conv", "type": "CONVOLUTION", "dtype": "HALF"}]}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_built_engine_runs_with_its_own_passport(
    version: str, use_tensorrt: Use, build_job: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    use_tensorrt(version)
    result = build_engine(build_job(HALF), tmp_path)
    passport = json.loads((tmp_path / "p.json").read_text())
    assert passport == result["passport"]
    assert passport["tensorrt"] == version
    assert passport["onnx_sha256"] == hashlib.sha256((tmp_path / "model.onnx").read_bytes()).hexdigest()
    assert passport["timing_cache_sha256"] == hashlib.sha256((tmp_path / "t.cache").read_bytes()).hexdigest()
    assert json.loads((tmp_path / "l.json").read_text()) == result["layers"]
    assert [(row["name"], row["precision"], row["runs"]) for row in result["layers"]] == [("conv", "int8", 2)]
    with TensorRT(tmp_path / "e.engine", 1, {"passport": passport}) as runtime:
        assert runtime.infer({"x": np.ones((2, 3), np.float32)})["y"][0, 0] == 2
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["stage"].partition(":")[0] for row in told] == [
        "reading the network",
        "building the engine",
        "timing the layers",
    ]
    assert result["progress"].startswith("elapsed time only" if version == "8.6.1" else "phases")


@pytest.mark.parametrize("version", VERSIONS)
def test_flags_are_those_of_precision_and_version(version: str, use_tensorrt: Use, build_job: Build, tmp_path: Path):
    trt = use_tensorrt(version)
    newest = version.startswith("11")
    flags = {
        precision: build_engine(build_job(network, precision=precision), tmp_path)["passport"]["flags"]
        for precision, network in (("fp32", NETWORK), ("fp16", HALF), ("int8", QUANTISED))
    }
    assert flags == {
        "fp32": [],  # TF32 is off: float32 is float32
        "fp16": ["TF32"] if newest else ["FP16", "TF32"],
        "int8": ["TF32"] if newest else ["FP16", "INT8", "TF32"],
    }
    explicit_batch = 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH) if version == "8.6.1" else 0
    assert trt._network_flags == explicit_batch
    assert trt._config.profiling_verbosity.name == "DETAILED"


@pytest.mark.parametrize("version", VERSIONS)
def test_sparse_kernels_are_tried_where_they_are_asked_for(
    version: str, use_tensorrt: Use, build_job: Build, tmp_path: Path
):
    use_tensorrt(version)
    passport = build_engine(build_job(HALF, sparse_weights=True), tmp_path)["passport"]
    assert "SPARSE_WEIGHTS" in passport["flags"]
    assert passport["sparse_weights"]
    passport = build_engine(build_job(HALF), tmp_path)["passport"]
    assert "SPARSE_WEIGHTS" not in passport["flags"]
    assert not passport["sparse_weights"]


def test_strong_types_need_no_flags_and_a_version_that_has_them(use_tensorrt: Use, build_job: Build, tmp_path: Path):
    trt = use_tensorrt("10.3.0")
    passport = build_engine(build_job(HALF, strongly_typed=True), tmp_path)["passport"]
    assert passport["strongly_typed"]
    assert passport["flags"] == ["TF32"]
    assert trt._network_flags == 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    use_tensorrt("8.6.1")
    with pytest.raises(AgentError) as caught:
        build_engine(build_job(HALF, strongly_typed=True), tmp_path)
    assert caught.value.what == "TensorRT 8.6.1 has no strongly typed networks"


def test_tensorrt_11_does_not_make_fp16_of_float32(use_tensorrt: Use, build_job: Build, tmp_path: Path):
    use_tensorrt("11.4.0")
    with pytest.raises(AgentError) as caught:
        build_engine(build_job(NETWORK), tmp_path)
    assert "computes nothing in float16" in caught.value.what
    assert "float16 ONNX" in caught.value.fix


@pytest.mark.parametrize(
    ("network", "changes", "what"),
    [
        (NETWORK, {"precision": "int8"}, "an int8 engine is asked for, and the network has no Q/DQ"),
        (QUANTISED, {}, "an fp16 engine is asked for, and the network has Q/DQ"),
        (NETWORK, {"precision": "int4"}, "no precision is called 'int4'"),
        (
            {**NETWORK, "unparsable": True},
            {},
            "TensorRT 10.3.0 cannot parse the network: node 3: no importer for operator Warp",
        ),
        (
            {**NETWORK, "unbuildable": True},
            {},
            "TensorRT 10.3.0 cannot build the engine: Could not find any implementation for node {ForeignNode}",
        ),
        (NETWORK, {"profiles": [{"x": {"min": [1], "opt": [1], "max": [1]}}]}, "profile 0 names ['x'], inputs of "),
    ],
)
def test_what_cannot_be_built_is_explained(
    network: dict[str, Any],
    changes: dict[str, Any],
    what: str,
    use_tensorrt: Use,
    build_job: Build,
    tmp_path: Path,
):
    use_tensorrt("10.3.0")
    with pytest.raises(AgentError) as caught:
        build_engine(build_job(network, **changes), tmp_path)
    assert caught.value.what.startswith(what)
    assert not (tmp_path / "e.engine").exists()


DYNAMIC = {
    **NETWORK,
    "inputs": {"x": {"dtype": "FLOAT", "shape": [-1, 3]}},
    "outputs": {"y": {"dtype": "HALF", "shape": [-1, 3]}},
}


def test_dynamic_inputs_need_a_profile_and_get_it(use_tensorrt: Use, build_job: Build, tmp_path: Path):
    trt = use_tensorrt("10.3.0")
    with pytest.raises(AgentError) as caught:
        build_engine(build_job(DYNAMIC), tmp_path)
    assert caught.value.what == "inputs of dynamic shape: x [-1, 3]"
    profile = {"x": {"min": [1, 3], "opt": [2, 3], "max": [4, 3]}}
    result = build_engine(build_job(DYNAMIC, profiles=[profile]), tmp_path)
    assert trt._config._profiles == [{"x": ((1, 3), (2, 3), (4, 3))}]
    assert result["passport"]["profiles"] == [profile]
    assert len(result["layers"]) == 2  # timed at the usual shape
    falling = {"x": {"min": [4, 3], "opt": [2, 3], "max": [1, 3]}}
    with pytest.raises(AgentError) as caught:
        build_engine(build_job(DYNAMIC, profiles=[falling]), tmp_path)
    assert "refuses profile 0" in caught.value.what


def test_limits_and_levels_reach_the_builder(use_tensorrt: Use, build_job: Build, tmp_path: Path):
    trt = use_tensorrt("10.3.0")
    job = build_job(HALF, workspace_bytes=1 << 28, optimisation_level=5)
    passport = build_engine(job, tmp_path)["passport"]
    assert trt._config._limits == {"WORKSPACE": 1 << 28}
    assert trt._config.builder_optimization_level == 5
    assert (passport["workspace_bytes"], passport["optimisation_level"]) == (1 << 28, 5)
    use_tensorrt("8.6.1", without=("IBuilderConfig.builder_optimization_level",))
    with pytest.raises(AgentError) as caught:
        build_engine(job, tmp_path)
    assert "no optimisation levels" in caught.value.what


def test_a_dla_takes_what_it_can_and_the_rest_is_named(use_tensorrt: Use, build_job: Build, tmp_path: Path):
    trt = use_tensorrt("10.3.0", dla_cores=2)
    with pytest.raises(AgentError) as caught:
        build_engine(build_job(dla_core=1), tmp_path)
    assert caught.value.what == "the DLA cannot run 1 of the layers: top"
    result = build_engine(build_job(dla_core=1, gpu_fallback=True), tmp_path)
    assert result["not_on_dla"] == ["top"]
    assert "GPU_FALLBACK" in result["passport"]["flags"]
    assert (trt._config.default_device_type.name, trt._config.DLA_core) == ("DLA", 1)
    for changes, what in (
        ({"dla_core": 2}, "there is no DLA core 2: this board has 2"),
        ({"dla_core": 0, "precision": "fp32"}, "a DLA computes in int8 or fp16, not in fp32"),
    ):
        with pytest.raises(AgentError) as caught:
            build_engine(build_job(**changes), tmp_path)
        assert caught.value.what == what


def test_the_board_keeps_its_timings_and_uses_them_again(use_tensorrt: Use, build_job: Build, tmp_path: Path):
    use_tensorrt("10.3.0")
    job = build_job(HALF, timing_cache_folder=str(tmp_path / "cache"), layer_runs=0)
    first, second = build_engine(job, tmp_path), build_engine(job, tmp_path)
    assert not first["timing_cache"]["reused"]
    assert second["timing_cache"]["reused"]
    (kept,) = (tmp_path / "cache").iterdir()
    assert kept.name == "trt-10.3.0-sm8.7-fake-gpu.cache"
    assert kept.read_bytes() == b"+timings+timings"
    assert (first["layers"], first["layers_unavailable"]) == ([], "layer_runs is 0")
    kept.write_bytes(b"of another board")
    assert not build_engine(job, tmp_path)["timing_cache"]["reused"]


def test_a_cache_that_is_not_kept_is_nowhere(use_tensorrt: Use, build_job: Build, tmp_path: Path):
    use_tensorrt("10.3.0")
    assert build_engine(build_job(HALF), tmp_path)["timing_cache"] == {"reused": False, "path": None}


def test_an_altered_network_is_not_built(use_tensorrt: Use, build_job: Build, tmp_path: Path):
    use_tensorrt("10.3.0")
    job = build_job(HALF)
    (tmp_path / "model.onnx").write_text("{}")
    with pytest.raises(AgentError) as caught:
        build_engine(job, tmp_path)
    assert "sha256" in caught.value.what


def test_no_gpu_is_said_before_anything_is_parsed(
    use_tensorrt: Use,
    cudart: FakeCudart,
    build_job: Build,
    tmp_path: Path,
):
    use_tensorrt("10.3.0")
    cudart.fails["cudaGetDeviceCount"] = 100
    with pytest.raises(AgentError) as caught:
        build_engine(build_job({**NETWORK, "unparsable": True}), tmp_path)
    assert "cudaGetDeviceCount" in caught.value.what


def test_a_board_compares_a_passport_without_its_engine(use_tensorrt: Use, build_job: Build, tmp_path: Path):
    use_tensorrt("10.3.0")
    passport = build_engine(build_job(HALF), tmp_path)["passport"]
    assert compare_passport({"passport": passport}, tmp_path)["differences"] == []
    use_tensorrt("10.13.0")
    assert compare_passport({"passport": passport}, tmp_path)["differences"] == [
        {"field": "TensorRT", "then": "10.3.0", "now": "10.13.0"}
    ]
