"""Operators that TFLite has not: spelled, they are the same function, to float32's last digits in LiteRT as well."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.formats.tflite.export import export_tflite
from edgekit.formats.tflite.spell import spell
from edgekit.nets.program import trace
from edgekit.schema.recipe import Export
from tests.edgekit.formats.tflite.interpreted import run_litert
from tests.edgekit.formats.transformers import model_of


class Softplus(nn.Module):
    def __init__(self, beta: float, threshold: float) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x, self.beta, self.threshold)


@pytest.mark.parametrize(("beta", "threshold"), [(1.0, 20.0), (0.5, 20.0), (3.0, 40.0)])
def test_a_spelled_softplus_is_the_same_function(beta: float, threshold: float) -> None:
    module = trace(model_of(Softplus(beta, threshold), (1, 100, 8), "NTC"), 1).module
    spell(module)
    assert not any("softplus" in str(node.target) for node in module.graph.nodes)
    x = torch.linspace(-20, 20, 800, dtype=torch.float64).reshape(1, 100, 8)
    torch.testing.assert_close(module(x), F.softplus(x, beta, 1e3), rtol=2e-8, atol=0)


@pytest.mark.filterwarnings("ignore")  # litert-torch and jax warn about themselves
def test_litert_keeps_the_digits_of_a_small_softplus(tmp_path: Path) -> None:
    """A Mamba multiplies by step sizes of 0.001 some hundred times; log(1 + exp(x)) is 1e-4 off there in LiteRT."""
    artifact = export_tflite(model_of(Softplus(1.0, 20.0), (1, 100, 8), "NTC"), "litert", tmp_path, "one", Export())
    x = torch.linspace(-12, 25, 800).reshape(1, 100, 8)
    torch.testing.assert_close(
        torch.from_numpy(run_litert(artifact, x)).double(), F.softplus(x.double(), 1.0, 1e3), rtol=2e-6, atol=0
    )
