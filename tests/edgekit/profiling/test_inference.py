"""Real artifacts through the real agent on this machine."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.devices.session import AgentSession
from edgekit.errors import DataError, DeviceError
from edgekit.profiling.inference import infer
from edgekit.schema.tensors import Preprocess
from tests.edgekit.devices.loopback import DEVICE, Loopback


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


def test_pieces_give_what_the_whole_gives_and_the_artifact_is_sent_once(local, product):
    samples = np.random.default_rng(1).normal(size=(10, 6)).astype(np.float32)
    pushed: list[str] = []

    class Counting(Loopback):
        def push(self, local: Path, remote) -> None:
            pushed.append(remote.name)
            super().push(local, remote)

    told = []
    with AgentSession(DEVICE, Counting()) as session:
        found = infer(
            DEVICE,
            product.path,
            product.row,
            "onnxruntime",
            {"features": samples},
            {"features": "NC"},
            session=session,
            piece_bytes=4 * 6 * 4,  # four samples: 4 + 4 + 2
            on_progress=told.append,
        )
    whole = infer(local, product.path, product.row, "onnxruntime", {"features": samples}, {"features": "NC"})
    np.testing.assert_array_equal(found.outputs["logits"], whole.outputs["logits"])
    assert pushed.count(product.path.name) == 1
    assert pushed.count("feeds.npz") == 3
    assert [(row["done"], row["total"]) for row in told if "done" in row] == [(4, 10), (8, 10), (10, 10)]


def test_raw_samples_are_preprocessed_on_the_device(local, product):
    raw = np.random.default_rng(5).integers(0, 256, (5, 6), dtype=np.uint8)
    spec = Preprocess(raw_dtype="uint8", raw_layout="N", offset=10.0, factor=0.5)
    tensor = product.row.inputs[0].model_copy(update={"preprocess": spec})
    row = product.row.model_copy(update={"inputs": (tensor,)})
    found = infer(local, product.path, row, "onnxruntime", {"features": raw}, {"features": "NC"}, raw=True)
    witness = ((raw.astype(np.float32) - 10) * 0.5) @ product.weight
    np.testing.assert_allclose(found.outputs["logits"], witness, rtol=1e-5, atol=1e-3)
