"""Transformers in LiteRT: in one piece, with the fewest operators, and as the program says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgekit.formats.tflite.export import export_tflite
from edgekit.formats.tflite.spell import spell
from edgekit.nets.program import trace
from edgekit.schema.recipe import Export
from tests.edgekit.formats.tflite.interpreted import run_litert
from tests.edgekit.formats.transformers import model_of, quantised_model, tiny_vit

pytestmark = pytest.mark.filterwarnings("ignore")  # litert-torch and jax warn about themselves


@pytest.mark.parametrize("pre_norm", [False, True])
def test_an_integer_transformer_gives_what_its_program_gives(pre_norm: bool, tmp_path: Path) -> None:
    model = quantised_model(tiny_vit(pre_norm))
    artifact = export_tflite(model, "litert", tmp_path, "vit", Export())
    fused = artifact.row.fused
    assert fused["FULLY_CONNECTED"] == 13
    assert not any(row.op == "FULLY_CONNECTED" for row in artifact.row.in_float)
    if not pre_norm:
        assert fused["DELEGATE"] == 1
    assert fused["TRANSPOSE"] == 8  # four for each attention: patches are rows in channels-last layout as they are
    (output,) = artifact.row.outputs
    assert output.scale is not None
    for x in model.example(5, seed=3)[0]:
        assert np.abs(run_litert(artifact, x[None]) - artifact.program(x[None])[0].numpy()).max() <= 1.01 * output.scale


def test_float_export_equals_the_network(tmp_path: Path) -> None:
    model = tiny_vit()
    artifact = export_tflite(model, "litert", tmp_path, "float", Export())
    (x,) = model.example(1, seed=1)
    np.testing.assert_allclose(run_litert(artifact, x), model.network(x).detach().numpy(), rtol=1e-5, atol=1e-5)
    assert (artifact.row.fused["MEAN"], artifact.row.fused["RSQRT"]) == (10, 5)  # of five norms


@pytest.mark.parametrize("affine", [True, False])
def test_a_spelled_layer_norm_is_the_same_function(affine: bool) -> None:
    class Norm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.gamma, self.beta = nn.Parameter(torch.randn(6)), nn.Parameter(torch.randn(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.layer_norm(x, (6,), self.gamma, self.beta, 0.3) if affine else F.layer_norm(x, (6,))

    model = model_of(Norm(), (1, 5, 6), "NTC")
    module = trace(model, 2).module
    spell(module)
    assert not any("layer_norm" in str(node.target) for node in module.graph.nodes)
    (x,) = model.example(2, seed=1)
    torch.testing.assert_close(module(x), model.network(x), rtol=1e-5, atol=1e-5)


def test_a_softmax_at_the_end_gives_codes(tmp_path: Path) -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.linear = nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x).softmax(-1)

    model = quantised_model(model_of(Head(), (1, 6), "NC"))
    artifact = export_tflite(model, "litert", tmp_path, "head", Export())
    (output,) = artifact.row.outputs
    assert (output.dtype, output.scale, output.zero_point) == ("int8", 1 / 256, -128)
    assert artifact.row.in_float == ()
    (x,) = model.example(1, seed=3)
    assert np.abs(run_litert(artifact, x) - artifact.program(x)[0].numpy()).max() <= 1.01 / 256


@pytest.mark.parametrize("by_row", [True, False])
def test_patches_in_the_order_of_the_file_are_read_without_a_transposition(by_row: bool, tmp_path: Path) -> None:
    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.patches, self.linear = nn.Conv2d(3, 6, 2, 2), nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made = self.patches(x) if by_row else self.patches(x).transpose(2, 3)
            return self.linear(made.flatten(2).transpose(1, 2))

    model = quantised_model(model_of(Patches(), (1, 3, 6, 4)))
    artifact = export_tflite(model, "litert", tmp_path, "patches", Export())
    assert artifact.row.fused.get("TRANSPOSE", 0) == (0 if by_row else 1)
    (output,) = artifact.row.outputs
    assert output.scale is not None
    (x,) = model.example(1, seed=3)
    assert np.abs(run_litert(artifact, x) - artifact.program(x)[0].numpy()).max() <= 1.01 * output.scale


def test_a_gelu_between_layers_is_computed_on_codes(tmp_path: Path) -> None:
    model = quantised_model(tiny_vit(pre_norm=True))
    artifact = export_tflite(model, "litert", tmp_path, "vit", Export())
    assert artifact.row.fused["GELU"] == 2
    assert not any(row.op == "GELU" for row in artifact.row.in_float)
