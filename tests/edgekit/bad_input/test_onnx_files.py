"""What is wrong with a network that comes as an .onnx file."""

import pytest

onnx = pytest.importorskip("onnx")

import numpy as np  # noqa: E402
from onnx import helper, numpy_helper  # noqa: E402

WEIGHT = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)


def save(path, operator="Relu", *, shape=(1, 1, 4, 4), weight=WEIGHT, opset=13):
    """operator -> flatten -> linear, as the recipe's data want it."""
    nodes = [
        helper.make_node(operator, ["image"], ["a"], "the_first"),
        helper.make_node("Flatten", ["a"], ["b"]),
        helper.make_node("Gemm", ["b", "w"], ["scores"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", 1, shape)],
        [helper.make_tensor_value_info("scores", 1, [shape[0], 2])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)


@pytest.fixture
def refused_file(refused, folder):
    """Builds net.onnx with the recipe's data, which must be refused."""

    def run(*words):
        return refused("--set", "data=own_code:samples", *words, recipe="net.onnx")

    return run


def test_no_such_file(refused_file):
    error = refused_file()
    assert "No such file" in error.what
    assert error.where == "model.onnx: net.onnx"


def test_a_file_that_is_none(refused_file, folder):
    (folder / "net.onnx").write_text("model: net\n")
    error = refused_file()
    assert error.kind == "ModelError"
    assert "damaged" in error.what or "no ONNX" in error.what
    assert "onnx.checker" in error.fix


def test_an_operator_that_is_not_taken(refused_file, folder):
    save(folder / "net.onnx", "Det")
    error = refused_file()
    assert "Det" in error.what
    assert "node the_first" in error.where
    assert "docs/onnx-in.md" in error.fix


def test_an_operator_set_that_is_too_old(refused_file, folder):
    save(folder / "net.onnx", opset=6)
    assert "operator set 6" in refused_file().what


def test_a_weight_that_is_not_a_number(refused_file, folder):
    weight = WEIGHT.copy()
    weight[0, 3] = np.nan
    save(folder / "net.onnx", weight=weight)
    error = refused_file()
    assert error.kind == "ModelError"
    assert "model.onnx: net.onnx" in error.where


def test_sizes_that_are_open(refused_file, folder):
    save(folder / "net.onnx", shape=("N", 1, "height", "width"))
    error = refused_file()
    assert "height" in error.what
    assert "model.inputs" in error.fix


def test_another_file_than_was_meant(refused_file, folder):
    save(folder / "net.onnx")
    error = refused_file("--set", f"model.sha256={'0' * 64}")
    assert error.kind == "DataError"
    assert "model.sha256" in error.where


def test_a_file_without_data(refused, folder):
    save(folder / "net.onnx")
    error = refused(recipe="net.onnx")
    assert error.what == "a bare model needs its data"
    assert "--calib" in error.fix
