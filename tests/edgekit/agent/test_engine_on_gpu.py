"""Real engines on a real GPU: what they compute, and that a foreign one is refused. Skipped where there is none."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.agent.engine import build_engine, compare_passport
from edgekit.agent.errors import AgentError
from edgekit.agent.runtimes.cuda import Cuda
from edgekit.agent.runtimes.tensorrt import TensorRT
from edgekit.formats.artifact import Artifact
from edgekit.formats.tensorrt.export import export_tensorrt
from edgekit.schema.recipe import Export
from tests import nets
from tests.edgekit.formats.quantised import quantised

pytestmark = [pytest.mark.gpu, pytest.mark.tensorrt]


@pytest.fixture(scope="module", autouse=True)
def _needs_a_gpu() -> None:
    if importlib.util.find_spec("tensorrt") is None:
        pytest.skip("TensorRT is not installed")
    try:
        with Cuda():
            pass
    except AgentError as err:
        pytest.skip(f"no GPU: {err.what}")


def built(folder: Path, artifact: Artifact, precision: str) -> dict[str, Any]:
    names = {"engine": "e.engine", "timing_cache": "t.cache", "layers": "l.json", "passport": "p.json"}
    job = {
        "kind": "build_engine",
        "artifact": {"path": artifact.path.name, "sha256": artifact.row.sha256},
        "precision": precision,
        "results": names,
        "timing_cache_folder": str(folder / "cache"),
    }
    return build_engine(job, folder)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_engine_computes_its_network(precision: str, tmp_path: Path):
    model = quantised(nets.TINY_RESIDUAL) if precision == "int8" else nets.model(nets.TINY_RESIDUAL)
    artifact = export_tensorrt(model, "tensorrt", tmp_path, "model", Export())
    if precision == "fp16" and int(__import__("tensorrt").__version__.split(".")[0]) >= 11:
        pytest.skip("TensorRT 11 takes fp16 from the file alone")
    result = built(tmp_path, artifact, precision)
    assert result["layers"]
    assert all(row["mean_ms"] >= 0 for row in result["layers"])
    if precision == "int8":
        assert "int8" in {row["precision"] for row in result["layers"]}
    (samples,) = model.example(20, seed=3)
    with TensorRT(tmp_path / "e.engine", 1, {"passport": result["passport"]}) as runtime:
        given = np.concatenate([runtime.infer({"image": x[None].numpy()})["output"] for x in samples])
        assert runtime.peak_gpu_bytes > 0
    expected = np.concatenate([artifact.program(x[None])[0].detach().numpy() for x in samples])
    span = float(np.ptp(expected))
    # float32 sums in another order; float16 has 10 bits of mantissa; int8 convolutions give codes of 8 bits
    limit = {"fp32": 1e-5, "fp16": 1e-2, "int8": 3 / 255}[precision] * span
    np.testing.assert_allclose(given, expected, rtol=0, atol=limit)


def test_a_second_build_uses_the_boards_timings_and_the_engine_is_at_home(tmp_path: Path):
    artifact = export_tensorrt(nets.model(nets.TINY_CONV), "tensorrt", tmp_path, "model", Export())
    first, second = built(tmp_path, artifact, "fp32"), built(tmp_path, artifact, "fp32")
    assert (first["timing_cache"]["reused"], second["timing_cache"]["reused"]) == (False, True)
    assert compare_passport({"passport": second["passport"]}, tmp_path)["differences"] == []
    foreign = {**second["passport"], "sm": "1.0"}
    with pytest.raises(AgentError) as caught:
        TensorRT(tmp_path / "e.engine", 1, {"passport": foreign}).__enter__()
    assert "compute capability (SM) was 1.0" in caught.value.what
