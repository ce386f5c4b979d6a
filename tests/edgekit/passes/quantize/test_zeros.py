"""Zeros among the weights through rounding and through the rewrites before it."""

import pytest
import torch

from edgekit.nets.graph import tensor_of
from edgekit.nets.model import Model
from edgekit.nets.program import trace
from edgekit.passes.equalise.equalise import equalise
from edgekit.passes.quantize.quantize import quantize
from edgekit.passes.quantize.simulate import weighted
from edgekit.schema.passes import EqualiseOptions, QuantizeOptions
from tests import nets
from tests.edgekit.formats.quantised import context


@pytest.fixture
def sparse() -> Model:
    model = nets.model(nets.TINY_RESIDUAL)
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for module in model.network.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                module.weight.masked_fill_(torch.rand(module.weight.shape, generator=draw) < 0.6, 0.0)
    return model


def _zeros(model: Model) -> dict[str, torch.Tensor]:
    program = trace(model)
    return {
        program.weight_name(node): tensor_of(program.module, node.args[1]).detach() == 0  # type: ignore[arg-type]
        for node in weighted(program).values()
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_observer": "mse", "weights": "int4"},
        {"rounding": "gptq", "weights": "int4"},
        {"rounding": "adaround", "weights": "int3", "rounding_iterations": 60},
        {"rounding": "block", "weights": "int3", "rounding_iterations": 30},
        {"bias_correction": "none", "rounding": "gptq"},
        {"weights": "e2m1", "activations": "float", "rounding": "gptq", "bias_correction": "none"},
        {"weights": "fp16", "activations": "fp16", "bias_correction": "none"},
    ],
    ids=lambda options: "-".join(map(str, options.values())) or "default",
)
def test_every_rounding_has_the_code_zero_for_a_zero(options: dict[str, object], sparse: Model) -> None:
    zeros = _zeros(sparse)
    assert sum(int(mask.sum()) for mask in zeros.values()) > 150
    table = quantize(sparse, QuantizeOptions.model_validate(options), context(sparse)).table
    assert table is not None
    for name, mask in zeros.items():
        assert (table.weights[name].values()[mask] == 0).all()


def test_gptq_would_fill_them_if_it_did_not_hold_them(sparse: Model) -> None:
    nearest, gptq = (
        quantize(sparse, QuantizeOptions(weights="int4", rounding=rounding), context(sparse)).table
        for rounding in ("nearest", "gptq")
    )
    assert nearest is not None
    assert gptq is not None
    moved = [int((nearest.weights[name].codes != gptq.weights[name].codes).sum()) for name in nearest.weights]
    assert sum(moved) > 10  # errors do travel, only not into zeros


@pytest.mark.parametrize("method", ["cross_layer", "smooth", "awq", "absorb_bias"])
def test_scales_between_layers_keep_the_pattern(method: str, sparse: Model) -> None:
    before = _zeros(sparse)
    after = _zeros(equalise(sparse, EqualiseOptions(methods=(method,)), context(sparse)))
    for name, mask in before.items():
        assert after[name][mask].all()
