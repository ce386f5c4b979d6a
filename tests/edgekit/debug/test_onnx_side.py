import numpy as np
import onnx
import onnxruntime
import pytest

from edgekit.debug.onnx_side import OnnxSide
from edgekit.errors import FormatError


@pytest.fixture
def side(colour_onnx) -> OnnxSide:
    return OnnxSide(colour_onnx, "model.onnx")


@pytest.fixture
def batch(colour_samples) -> dict[str, np.ndarray]:
    return {"input:image": colour_samples.inputs["image"][:8]}


@pytest.mark.parametrize("runtime", ["onnxruntime", "onnxruntime-unfused"])
def test_the_last_layer_is_what_the_file_itself_gives(runtime, side, batch, colour_onnx):
    with side.session(runtime, frozenset()) as run:
        found = run(batch)
    assert list(found) == [layer.name for layer in side.layers]
    session = onnxruntime.InferenceSession(str(colour_onnx), providers=["CPUExecutionProvider"])
    (given,) = session.run(None, {"image": batch["input:image"]})
    np.testing.assert_allclose(found["linear"], given, atol=1.01 * side.layers[-1].grid.scale)


def test_every_layer_lies_on_its_grid(side, batch):
    with side.session("onnxruntime", frozenset()) as run:
        found = run(batch)
    for layer in side.layers:
        codes = found[layer.name] / layer.grid.scale
        np.testing.assert_allclose(codes, np.rint(codes), atol=1e-3)


def test_a_cut_layer_does_not_reach_its_readers_and_is_still_found(side, batch):
    with side.session("onnxruntime", frozenset()) as run:
        whole = run(batch)
    cut = frozenset(layer.name for layer in side.layers[1:])
    with side.session("onnxruntime", cut) as run:
        same = run({**whole, **batch})
        nothing = run({**{name: np.zeros_like(values) for name, values in whole.items()}, **batch})
    for name, values in whole.items():
        np.testing.assert_array_equal(same[name], values)  # fed with its own values it is what it was
    np.testing.assert_array_equal(nothing["conv2d"], whole["conv2d"])  # reads the input, which is not cut
    bias = side.layers[2].bias  # of a convolution that is fed zeros
    np.testing.assert_allclose(nothing["conv2d_1"][0, :, 4, 4], bias, atol=0.51 * side.layers[2].grid.scale)


def test_outputs_more_leave_the_fusions_of_an_integer_file_as_they_are(side):
    assert side.notes() == ()


def test_a_float_file_says_what_is_fused_otherwise(exported, colour_model):
    (note,) = OnnxSide(exported(colour_model, "float-onnx"), "float").notes()
    assert "Add 0 -> 1" in note


def test_a_file_for_tensorrt_runs_operator_by_operator_only(colour_onnx):
    side = OnnxSide(colour_onnx, "stand-in", fuses=False)
    assert side.runtimes == ("onnxruntime-unfused",)
    assert side.notes() == ()


def test_a_free_batch_is_none(colour_onnx, tmp_path):
    model = onnx.load(colour_onnx)
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    dim.ClearField("dim_value")
    dim.dim_param = "n"
    onnx.save(model, tmp_path / "free.onnx")
    assert OnnxSide(tmp_path / "free.onnx", "free").batch is None


def test_what_is_no_onnx_file_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(FormatError) as caught:
        OnnxSide(path, "x")
    assert caught.value.where == str(path)
    assert caught.value.what.startswith("is no ONNX file")
