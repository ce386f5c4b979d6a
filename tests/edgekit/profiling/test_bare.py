import hashlib
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.errors import FormatError, SchemaError
from edgekit.profiling.bare import describe_file
from edgekit.profiling.jobs import profile
from edgekit.schema.profile import MeasureSettings


def product(path: Path, shape: list[int | str], kind: int = TensorProto.FLOAT) -> Path:
    """y = x + x."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_an_onnx_file_says_its_tensors(tmp_path: Path):
    path = product(tmp_path / "m.onnx", [1, 3, 8, 8])
    row = describe_file(path)
    assert (row.format, row.precision, row.path) == ("onnx", "fp32", "m.onnx")
    assert row.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [(t.name, t.shape, t.dtype, t.layout, t.scale) for t in row.inputs] == [
        ("x", (1, 3, 8, 8), "float32", "NCHW", None)
    ]
    assert "not known" in row.convention


def test_an_open_batch_is_1_or_what_is_asked(tmp_path: Path):
    path = product(tmp_path / "m.onnx", ["batch", 3])
    assert describe_file(path).inputs[0].shape == (1, 3)
    assert describe_file(path, batch=8).inputs[0].shape == (8, 3)
    assert describe_file(path, shapes={"x": [4, 3]}).inputs[0].shape == (4, 3)


def test_other_open_axes_must_be_said(tmp_path: Path):
    path = product(tmp_path / "m.onnx", [1, "height", "width"])
    with pytest.raises(SchemaError) as caught:
        describe_file(path)
    assert caught.value.what == "input 'x' is 1x?x? in the file"
    assert caught.value.fix == "say how long each axis is: --input-shape x:1x1x1"
    assert describe_file(path, shapes={"x": [1, 5, 6]}).inputs[0].shape == (1, 5, 6)


@pytest.mark.parametrize("shape", [[2, 5, 6], [1, 5]])
def test_a_shape_that_the_file_forbids_is_refused(tmp_path: Path, shape: list[int]):
    with pytest.raises(SchemaError, match="is 1x"):
        describe_file(product(tmp_path / "m.onnx", [1, "height", 6]), shapes={"x": shape})


def test_a_shape_of_no_input_is_refused(tmp_path: Path):
    with pytest.raises(SchemaError) as caught:
        describe_file(product(tmp_path / "m.onnx", [1, 3]), shapes={"z": [1, 3]})
    assert (caught.value.what, caught.value.fix) == ("no input is called 'z'", "inputs: x")


def test_a_type_that_cannot_be_fed_is_refused(tmp_path: Path):
    with pytest.raises(FormatError) as caught:
        describe_file(product(tmp_path / "m.onnx", [1, 3], TensorProto.DOUBLE))
    assert caught.value.what == "tensor 'x' is of type float64"


def test_integer_files_are_seen_and_their_codes_fill_the_range(codes):
    row = describe_file(codes.path)
    assert row.precision == "int8"
    assert (row.inputs[0].dtype, row.inputs[0].scale) == ("uint8", 1.0)


def test_weights_in_another_file_are_refused(tmp_path: Path):
    import numpy as np

    weight = onnx.numpy_helper.from_array(np.ones((3, 300), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 300])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    with pytest.raises(FormatError) as caught:
        describe_file(tmp_path / "m.onnx")
    assert caught.value.what == "its weights lie in another file"


@pytest.mark.parametrize("name", ["noise.onnx", "noise.tflite"])
def test_what_is_no_model_is_refused(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"not a model at all")
    with pytest.raises(FormatError):
        describe_file(tmp_path / name)


def test_an_empty_onnx_file_has_nothing_to_run(tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(FormatError) as caught:
        describe_file(tmp_path / "model.onnx")
    assert caught.value.what == "it has no input, so there is nothing to run"


def test_other_files_are_refused(tmp_path: Path):
    for name in ("model.pt", "absent.onnx"):
        with pytest.raises(SchemaError):
            describe_file(tmp_path / name)


def test_a_bare_tflite_file_is_described_and_measured(convolution, local):
    row = describe_file(convolution.path)
    assert (row.format, row.inputs[0].shape, row.outputs[0].shape) == ("tflite", (2, 3, 8, 8), (2, 4, 8, 8))
    quick = MeasureSettings(batch=2, warmup_ms=1, warmup_runs=2, duration_s=0.01, min_runs=30, percentile=50)
    found = profile(local, convolution.path, row, "litert", quick)
    assert found.summary.n >= 30
