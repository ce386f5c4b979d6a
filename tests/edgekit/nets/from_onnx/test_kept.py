"""Operators without a row that are kept in float: computed by ONNX Runtime, written into artifacts as they were."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from edgekit.errors import FormatError, ModelError, PassError
from edgekit.formats.onnx.export import export_onnx
from edgekit.formats.tflite.export import export_tflite
from edgekit.nets.load import build
from edgekit.nets.saved import load_model, save_model
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import Export, ModelSource
from tests.edgekit.formats.quantised import context
from tests.edgekit.nets.from_onnx.graphs import Running, model, numbers, value

node = helper.make_node


def save(path, middle, *, opset=13):
    """conv -> relu -> `middle`, from b to c -> global pool -> linear."""
    nodes = [
        node("Conv", ["x", "conv.weight"], ["a"], pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"]),
        *middle,
        node("GlobalAveragePool", ["c"], ["d"]),
        node("Flatten", ["d"], ["e"]),
        node("Gemm", ["e", "fc.weight", "fc.bias"], ["y"], transB=1),
    ]
    stored = {"conv.weight": numbers(4, 3, 3, 3), "fc.weight": numbers(2, 4), "fc.bias": numbers(2)}
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    onnx.save(model(nodes, [value("x", Running((1, 3, 6, 6)), "N")], ["y"], tensors, opset), path)
    return str(path)


HARD = [node("Hardmax", ["b"], ["h"], "hard", axis=1), node("Mul", ["b", "h"], ["c"])]


@pytest.fixture
def kept(tmp_path):
    return build(ModelSource(onnx=save(tmp_path / "net.onnx", HARD), allow_float=True))


def test_without_leave_it_is_refused(tmp_path):
    with pytest.raises(ModelError) as caught:
        build(ModelSource(onnx=save(tmp_path / "net.onnx", HARD)))
    assert "Hardmax" in caught.value.what
    assert "node hard" in caught.value.where
    assert "--allow-float" in caught.value.fix


def test_a_kept_operator_survives_the_store(kept, tmp_path):
    save_model(kept, tmp_path / "model")
    again = load_model(tmp_path / "model")
    x = kept.example(3)
    with torch.no_grad():
        assert torch.equal(kept.network(*x), again.network(*x))


def test_an_int8_artifact_has_the_node_as_it_was_and_says_so(kept, tmp_path):
    made = quantize(kept, QuantizeOptions(), context(kept))
    artifact = export_onnx(made, "onnxruntime-x86-vnni", tmp_path, "net", Export())
    assert "Hardmax" in artifact.row.fused
    assert "QLinearConv" in artifact.row.fused
    assert any("hard" in row.node for row in artifact.row.in_float)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (x,) = kept.example(1)
    with torch.no_grad():
        wanted = kept.network(x).numpy()
    found = session.run(None, {"x": x.numpy()})[0]
    np.testing.assert_allclose(found, wanted, atol=0.1 * np.abs(wanted).max())


def test_tflite_has_it_not(kept, tmp_path):
    pytest.importorskip("litert_torch")
    with pytest.raises(FormatError) as caught:
        export_tflite(kept, "litert", tmp_path, "net", Export())
    assert "Hardmax, which was kept in float" in caught.value.what
    assert caught.value.where.startswith("layer hard, format tflite")


def test_a_spelling_without_a_layer_is_kept_too(tmp_path):
    """A GRU whose reset gate comes before the product, as Keras writes it."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("GRU", ["t", "w", "r"], ["o"], "gru", hidden_size=2),
        node("Squeeze", ["o", "one"], ["q"]),
        node("Transpose", ["q"], ["y"], perm=[1, 0, 2]),
    ]
    stored = {"w": numbers(1, 6, 3), "r": numbers(1, 6, 2), "one": np.array([1])}
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    onnx.save(model(nodes, [value("x", Running((1, 5, 3)), "N")], ["y"], tensors, 14), tmp_path / "gru.onnx")
    made = build(ModelSource(onnx=str(tmp_path / "gru.onnx"), allow_float=True))  # which compares it with the file
    assert made.outputs[0].shape == (1, 5, 2)
    assert made.network(torch.zeros(4, 5, 3)).shape == (4, 5, 2)


@pytest.mark.parametrize(
    ("middle", "why", "opset"),
    [
        ([node("NonZero", ["b"], ["n"], "nz"), node("Cast", ["n"], ["c"], to=1)], "sizes that depend on values", 13),
        ([node("Odd", ["b"], ["c"], "odd", domain="own")], "not among the operators", 13),
    ],
)
def test_what_cannot_be_kept_says_why(tmp_path, middle, why, opset):
    with pytest.raises(ModelError) as caught:
        build(ModelSource(onnx=save(tmp_path / "net.onnx", middle, opset=opset), allow_float=True))
    assert why in caught.value.what
    assert f"node {middle[0].name}" in caught.value.where


def test_no_gradient_goes_through_it_unnoticed(kept):
    (x,) = kept.example(2)
    weight = kept.network.get_submodule("conv").weight
    with pytest.raises(PassError) as caught:
        kept.network(x).sum().backward()
    assert "learned through Hardmax" in caught.value.what
    assert weight.grad is None
