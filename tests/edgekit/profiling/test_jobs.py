"""Real artifacts through the real agent on this machine. Nothing here asserts how fast anything was."""

import hashlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.devices.zipapp import agent_version
from edgekit.errors import DataError, DeviceError, SchemaError
from edgekit.profiling.jobs import infer, profile, profile_interleaved
from edgekit.schema.profile import MeasureSettings

QUICK = MeasureSettings(batch=4, warmup_ms=1, warmup_runs=2, duration_s=0.01, min_runs=30, percentile=90)


def test_an_onnx_product_equals_numpys_and_the_last_batch_is_filled_up(local, product):
    samples = np.random.default_rng(1).normal(size=(10, 6)).astype(np.float32)  # 4 + 4 + 2
    found = infer(local, product.path, product.row, "onnxruntime", {"features": samples}, {"features": "NC"})
    assert set(found.outputs) == {"logits"}
    assert found.outputs["logits"].dtype == np.float32
    np.testing.assert_allclose(found.outputs["logits"], samples @ product.weight, rtol=1e-5, atol=1e-5)
    assert found.codes == {}
    assert (found.runtime, found.runtime_version) == ("onnxruntime", version("onnxruntime"))


def test_codes_go_in_and_out_in_the_artifacts_layout(local, codes):
    # (N, C, H, W); in steps of 0.5 around the zero point, so nothing is rounded on the way in
    images = (np.random.default_rng(2).integers(-20, 21, (3, 3, 2, 2)) * 0.5).astype(np.float32)
    found = infer(local, codes.path, codes.row, "onnxruntime", {"image": images}, {"image": "NCHW"})
    real = np.clip(np.maximum(images, -5.0) * 3.0, (-128 + 7) * 0.25, (127 + 7) * 0.25)  # both grids end somewhere
    np.testing.assert_array_equal(found.outputs["tripled"], real)
    assert found.codes["tripled"].dtype == np.int8
    np.testing.assert_array_equal(found.codes["tripled"], real / 0.25 - 7)


def test_a_tflite_convolution_equals_pytorchs(local, convolution):
    images = np.random.default_rng(3).normal(size=(5, 3, 8, 8)).astype(np.float32)
    found = infer(local, convolution.path, convolution.row, "litert", {"image": images}, {"image": "NCHW"})
    with torch.no_grad():
        witness = convolution.module(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found.outputs["map"], witness, rtol=1e-4, atol=1e-5)
    assert found.runtime_version == version("ai-edge-litert")


def test_one_step_runs_over_sequences_and_its_states_go_back_as_they_are(local, adder):
    # multiples of 0.5 small enough that no code is rounded or cut off; 2 + 1 sequences
    frames = np.random.default_rng(4).integers(-2, 3, (3, 5, 2)).astype(np.float32)
    found = infer(local, adder.path, adder.row, "onnxruntime", {"frames": frames}, {"frames": "NTC"})
    sums = (frames @ adder.weight).sum(1)
    np.testing.assert_array_equal(found.outputs["output"], 2 * sums)
    np.testing.assert_array_equal(found.codes["next_h"], sums / 0.5 - 3)
    np.testing.assert_array_equal(found.outputs["next_n"], np.full((3, 1), 5))
    again = infer(local, adder.path, adder.row, "onnxruntime", {"frames": frames[2:]}, {"frames": "NTC"})
    np.testing.assert_array_equal(again.outputs["output"], 2 * sums[2:])


@pytest.mark.parametrize(
    ("changes", "samples", "layout", "what"),
    [
        ({"scale": 0.25}, (2, 5, 2), "NTC", "cannot become input"),
        ({}, (2, 2), "NC", "inputs of layouts NC"),
    ],
)
def test_what_cannot_be_fed_back_is_refused(local, adder, changes, samples, layout, what):
    outputs = tuple(t.model_copy(update=changes if t.network_name == "next_h" else {}) for t in adder.row.outputs)
    row = adder.row.model_copy(update={"outputs": outputs})
    with pytest.raises(DeviceError) as caught:
        infer(local, adder.path, row, "onnxruntime", {"frames": np.zeros(samples, np.float32)}, {"frames": layout})
    assert what in caught.value.what


def test_a_missing_input_is_named(local, product):
    with pytest.raises(DataError) as caught:
        infer(local, product.path, product.row, "onnxruntime", {}, {})
    assert caught.value.what == "no samples or no layout for input 'features'"


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
    assert caught.value.fix == "runtimes: litert, onnxruntime, onnxruntime-unfused, tflite-runtime"


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
