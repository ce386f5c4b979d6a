from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgekit.errors import BundleError
from edgekit.release.parity import Expected, ParitySamples, Tolerance, parity_bytes, read_parity

INPUTS = {"b": np.arange(12, dtype=np.float32).reshape(3, 4), "a": np.ones((3, 2), np.float32)}
SAMPLES = ParitySamples(
    INPUTS,
    {"a": "NC", "b": "NC"},
    {
        "model.onnx": Expected(
            {"y": np.full((3, 2), 0.5, np.float32)}, Tolerance(output=0.1, code=1), {"y": np.eye(3, 2, dtype=np.int8)}
        ),
        "sub/model.tflite": Expected({"y": np.zeros((3, 2), np.float32)}, Tolerance(output=1e-5)),
    },
)


def test_what_was_written_is_read(tmp_path):
    (tmp_path / "p").write_bytes(parity_bytes(replace(SAMPLES, synthetic=True)))
    found = read_parity(tmp_path / "p")
    assert found.synthetic
    assert found.layouts == SAMPLES.layouts
    np.testing.assert_array_equal(found.inputs["b"], INPUTS["b"])
    first = found.expected["model.onnx"]
    assert first.tolerance == Tolerance(output=0.1, code=1)
    np.testing.assert_array_equal(first.codes["y"], [[1, 0], [0, 1], [0, 0]])
    assert first.codes["y"].dtype == np.int8
    assert found.expected["sub/model.tflite"].codes == {}


def test_equal_samples_give_equal_bytes_whatever_the_order_and_the_strides():
    turned = ParitySamples(
        {"a": INPUTS["a"], "b": np.asfortranarray(INPUTS["b"])},
        {"b": "NC", "a": "NC"},
        dict(reversed(SAMPLES.expected.items())),
    )
    assert parity_bytes(turned) == parity_bytes(SAMPLES)


def test_another_number_of_samples_is_refused():
    with pytest.raises(BundleError, match="samples"):
        parity_bytes(replace(SAMPLES, inputs={**INPUTS, "a": np.ones((2, 2), np.float32)}))


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "p").write_bytes(b"not a safetensors file")
    with pytest.raises(BundleError):
        read_parity(tmp_path / "p")
    save_file({"x": INPUTS["a"]}, tmp_path / "q")
    with pytest.raises(BundleError):
        read_parity(tmp_path / "q")
