"""Transformers in ONNX Runtime: what fuses, what stays in float, and that both are what the program says."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from edgekit.formats.artifact import Artifact
from edgekit.formats.onnx.export import export_onnx
from edgekit.schema.recipe import Export
from tests.edgekit.formats.transformers import model_of, quantised_model, tiny_vit


def _run(artifact: Artifact, x: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(artifact.path), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"image": x.numpy()})
    return np.asarray(output)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_every_linear_layer_is_one_integer_kernel_with_its_bias(pre_norm: bool, tmp_path: Path) -> None:
    model = quantised_model(tiny_vit(pre_norm))
    artifact = export_onnx(model, "onnxruntime-x86-vnni", tmp_path, "vit", Export())
    fused = artifact.row.fused
    assert fused["QGemm"] == 13  # six a layer, packed ones taken apart, and the head
    assert "Gemm" not in fused
    # with norms before the layers, class token and positions are between floats
    embedded = 0 if pre_norm else 1
    assert [fused.get(op, 0) for op in ("QLinearConv", "QLinearAdd", "QLinearConcat")] == [1, embedded, embedded]
    assert fused.get("Gelu", 0) == (2 if pre_norm else 0)  # one kernel, not five
    scale = [q.scale[0] for q in artifact.row.quantisation if q.role == "activation"][-1]
    for x in model.example(5, seed=3)[0]:
        error = np.abs(_run(artifact, x[None]) - artifact.program(x[None])[0].numpy()).max()
        assert error <= 1.01 * scale


@pytest.mark.parametrize("pre_norm", [False, True])
def test_float_export_equals_the_network(pre_norm: bool, tmp_path: Path) -> None:
    model = tiny_vit(pre_norm)
    artifact = export_onnx(model, "onnxruntime-arm", tmp_path, "float", Export(batch=2))
    (x,) = model.example(2, seed=1)
    np.testing.assert_allclose(_run(artifact, x), model.network(x).detach().numpy(), rtol=1e-5, atol=1e-5)


def test_gates_are_integer_kernels(tmp_path: Path) -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.out = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.a(x).sigmoid() * (self.b(x) + 0.5))

    model = quantised_model(model_of(Gated(), (1, 6), "NC"))
    artifact = export_onnx(model, "onnxruntime-x86-vnni", tmp_path, "gates", Export())
    assert artifact.row.in_float == ()
    assert {"QLinearSigmoid", "QLinearMul", "QLinearAdd"} <= artifact.row.fused.keys()
    stored = {t.name: t.data_type for t in onnx.load(artifact.path).graph.initializer}
    assert next(kind for name, kind in stored.items() if name.startswith("number")) == onnx.TensorProto.UINT8
    (x,) = model.example(1, seed=4)
    scale = [q.scale[0] for q in artifact.row.quantisation if q.role == "activation"][-1]
    assert np.abs(_run(artifact, x) - artifact.program(x)[0].numpy()).max() <= 1.01 * scale
