"""Masks in ONNX: one for all layers, and the same answers."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.formats.onnx.constants import fold_masks
from edgekit.formats.onnx.export import export_onnx
from edgekit.schema.recipe import Export
from tests.edgekit.formats.transformers import model_of

ort = pytest.importorskip("onnxruntime", reason="runs the graphs")


class Causal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(8, 24) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            q, k, v = layer(x).unflatten(2, (2, 12)).transpose(1, 2).chunk(3, 3)
            x = x + F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        return x


@pytest.mark.parametrize(
    ("steps", "dtype"),
    [(12, TensorProto.FLOAT), (200, TensorProto.BOOL)],  # the exporter itself folds what is small
)
def test_layers_share_one_mask(steps: int, dtype: int, tmp_path: Path) -> None:
    model = model_of(Causal(), (1, steps, 8), "NTC")
    path = export_onnx(model, "onnxruntime-x86-vnni", tmp_path, "causal", Export()).path
    graph = onnx.load(path).graph
    masks = [tensor for tensor in graph.initializer if list(tensor.dims) == [steps, steps]]
    assert [tensor.data_type for tensor in masks] == [dtype]
    assert not {"Trilu", "Equal"} & {node.op_type for node in graph.node}
    (x,) = model.example(1, seed=1)
    (found,) = ort.InferenceSession(path).run(None, {"image": x.numpy()})
    np.testing.assert_allclose(found, model.network(x).detach().numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [None, 0, 1, -2])
def test_a_folded_triangle_is_the_runtimes(upper: int, k: int | None) -> None:
    names = ["numbers", *(["k"] if k is not None else [])]
    stored = [numpy_helper.from_array(np.arange(20, dtype=np.float32).reshape(4, 5), "numbers")]
    stored += [numpy_helper.from_array(np.array(k, np.int64), "k")] if k is not None else []
    nodes = [
        helper.make_node("Trilu", names, ["triangle"], upper=upper),
        helper.make_node("Add", ["x", "triangle"], ["y"]),
        helper.make_node("Add", ["y", "numbers"], ["z"]),  # so the numbers stay
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 5]) for name in "xz"]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], stored),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    before = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    assert fold_masks(model.graph) == 1
    assert [node.op_type for node in model.graph.node] == ["Add", "Add"]
    assert sorted(tensor.name for tensor in model.graph.initializer) == ["numbers", "triangle"]
    np.testing.assert_array_equal(ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0], before)


def test_what_depends_on_an_input_stays() -> None:
    node = helper.make_node("Trilu", ["x"], ["y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 5]) for name in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    assert fold_masks(graph) == 0
    assert len(graph.node) == 1
