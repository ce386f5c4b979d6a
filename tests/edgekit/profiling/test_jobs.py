"""Real artifacts through the real agent on this machine. Nothing here asserts how fast anything was."""

import hashlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from edgekit.agent.runtimes.table import RUNTIMES
from edgekit.devices.zipapp import agent_version
from edgekit.errors import DeviceError, SchemaError
from edgekit.profiling.inference import infer
from edgekit.profiling.jobs import profile, profile_interleaved
from edgekit.schema.profile import MeasureSettings

QUICK = MeasureSettings(batch=4, warmup_ms=1, warmup_runs=2, duration_s=0.01, min_runs=30, percentile=90)


def test_an_altered_artifact_is_refused_by_the_device(local, product, tmp_path: Path):
    content = bytearray(product.path.read_bytes())
    content[-1] ^= 1
    altered = tmp_path / "product.onnx"
    altered.write_bytes(content)
    samples = {"features": np.zeros((1, 6), dtype=np.float32)}
    with pytest.raises(DeviceError) as inferring:
        infer(local, altered, product.row, "onnxruntime", samples, {"features": "NC"})
    with pytest.raises(DeviceError) as profiling:
        profile(local, altered, product.row, "onnxruntime", QUICK)
    for caught, job in ((inferring, "infer"), (profiling, "profile")):
        assert caught.value.what.endswith(f"expected {product.row.sha256}")
        assert caught.value.where.startswith(f"device local, job {job}")


def test_a_file_that_is_no_model_is_a_device_error(local, product, tmp_path: Path):
    (tmp_path / "noise.onnx").write_bytes(b"noise")
    row = product.row.model_copy(update={"path": "noise.onnx", "sha256": hashlib.sha256(b"noise").hexdigest()})
    with pytest.raises(DeviceError) as caught:
        profile(local, tmp_path / "noise.onnx", row, "onnxruntime", QUICK)
    assert "cannot load the artifact" in caught.value.what


def test_an_unknown_runtime_is_a_device_error(local, product):
    with pytest.raises(DeviceError) as caught:
        profile(local, product.path, product.row, "trtexec", QUICK)
    assert caught.value.fix == f"runtimes: {', '.join(sorted(RUNTIMES))}"


def test_a_profile_says_what_was_measured_how_and_where(local, product):
    found = profile(local, product.path, product.row, "onnxruntime", QUICK)
    assert (found.artifact, found.artifact_sha256) == ("product.onnx", product.row.sha256)
    assert (found.device, found.runtime, found.runtime_version) == ("local", "onnxruntime", version("onnxruntime"))
    assert found.agent_version == agent_version()
    assert found.settings == QUICK
    assert len(found.samples_ms) == found.summary.n >= 100  # p90 needs a hundred, though min_runs asks for 30
    assert found.summary.p99_ms is None or found.summary.n >= 1000
    assert min(found.samples_ms) > 0
    assert found.peak_rss_bytes > found.load_rss_bytes > 10_000_000
    assert found.libraries["onnxruntime"] == version("onnxruntime")
    assert found.conditions.affinity
    assert not found.stand_in
    assert "stand-in" not in found.reasons


def test_layers_of_both_runtimes_in_one_table(local, codes, convolution):
    asked = QUICK.model_copy(update={"batch": 2, "layers": True})
    onnx = profile(local, codes.path, codes.row, "onnxruntime", asked)
    tflite = profile(local, convolution.path, convolution.row, "litert", asked)
    assert onnx.layers_unavailable == tflite.layers_unavailable == ""
    assert [layer.operator for layer in onnx.layers] == ["DequantizeLinear", "Mul", "QuantizeLinear"]
    (kernel,) = (layer for layer in tflite.layers if layer.operator == "Convolution")
    assert kernel.precision == "fp32"
    for found in (onnx, tflite):
        assert sum(layer.ratio for layer in found.layers) == pytest.approx(1.0)
        assert {layer.runs >= 10 for layer in found.layers} == {True}
    assert profile(local, codes.path, codes.row, "onnxruntime", QUICK.model_copy(update={"batch": 2})).layers == ()


def test_a_stand_in_is_labelled_and_never_valid(local, product):
    asked = profile(local, product.path, product.row, "onnxruntime", QUICK, stand_in_for="jetson-orin-nano")
    known = local.model_copy(update={"stand_in_for": "raspberry-pi-5"})
    emulated = profile(known, product.path, product.row, "onnxruntime", QUICK)
    for found, target in ((asked, "jetson-orin-nano"), (emulated, "raspberry-pi-5")):
        assert (found.stand_in, found.stand_in_for, found.valid) == (True, target, False)
        assert "stand-in" in found.reasons
        assert found.summary.p50_ms > 0


def test_another_batch_than_the_artifacts_is_refused(local, product):
    with pytest.raises(SchemaError) as caught:
        profile(local, product.path, product.row, "onnxruntime", QUICK.model_copy(update={"batch": 1}))
    assert caught.value.fix == "set export.batch to 1, or measure at batch 4"


def test_interleaved_profiles_keep_their_rounds_and_each_its_runtime(local, codes, convolution):
    artifacts = [(codes.path, codes.row, "onnxruntime"), (convolution.path, convolution.row, "litert")]
    found = profile_interleaved(local, artifacts, QUICK.model_copy(update={"batch": 2}), rounds=4)
    assert [(one.artifact, one.runtime) for one in found] == [
        ("codes.onnx", "onnxruntime"),
        ("convolution.tflite", "litert"),
    ]
    assert [one.runtime_version for one in found] == [version("onnxruntime"), version("ai-edge-litert")]
    assert found[0].measured_at == found[1].measured_at
    for one in found:
        assert len(one.conditions.extra["rounds"]) == 4
        assert sum(one.conditions.extra["rounds"]) == one.summary.n >= 100
        assert one.conditions.extra["interleaved"] == [codes.row.sha256, convolution.row.sha256]


def test_one_round_cannot_alternate(local, product):
    with pytest.raises(SchemaError):
        profile_interleaved(local, [(product.path, product.row, "onnxruntime")], QUICK, rounds=1)
