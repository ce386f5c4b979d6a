"""Hard cases: the same function, which plain quantisation loses and equalisation keeps."""

from dataclasses import replace

import pytest
import torch

from benchmarks.harden import KINDS, harden
from edgekit.data.splits import find_data
from edgekit.formats.conventions.convention import CONVENTIONS
from edgekit.formats.conventions.lowering import lower
from edgekit.formats.conventions.witness import Witness
from edgekit.nets.load import build
from edgekit.passes.equalise.equalise import equalise
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.load import load_recipe
from edgekit.schema.passes import EqualiseOptions, QuantizeOptions
from tests import nets
from tests.edgekit.formats.quantised import context
from tests.edgekit.passes.equalise.networks import Block, model_of


def _int8(model, surroundings, inputs):
    """Outputs in the integers of ONNX Runtime's convention, for a multiple of 50 inputs."""
    quantised = quantize(model, QuantizeOptions(samples=96), surroundings)
    witness = Witness(lower(quantised, CONVENTIONS["onnxruntime-x86-vnni"], 50).module)
    return torch.cat([witness(inputs[index : index + 50])[0] for index in range(0, len(inputs), 50)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [lambda: nets.model(nets.TINY_RESIDUAL), lambda: model_of(Block(), (1, 4, 4))])
def test_the_function_stays_and_channels_differ_by_the_factor(make, kind):
    model = make()
    hard = harden(model, kind, context(model))
    (x,) = model.example(4, seed=7)
    with torch.no_grad():
        torch.testing.assert_close(hard.network(x), model.network(x), rtol=1e-3, atol=1e-4)
    again = harden(model, kind, context(model))
    assert all(torch.equal(a, b) for a, b in zip(hard.network.parameters(), again.network.parameters(), strict=True))
    assert hard.history[-1] == f"harden {kind} x50"


def test_alternating_channels_are_times_50_and_divided_by_50():
    model = nets.model(nets.TINY_RESIDUAL)
    hard = harden(model, "alternating", context(model))
    ratio = hard.network.stem.bias / model.network.stem.bias
    torch.testing.assert_close(ratio, torch.tensor([50, 1 / 50, 50, 1 / 50]))


def test_equalisation_keeps_what_plain_quantisation_of_a_hard_network_loses():
    model = nets.model(nets.TINY_CONV)
    surroundings = context(model)
    hard = harden(model, "alternating", surroundings)
    (x,) = model.example(100, seed=7)
    with torch.no_grad():
        wanted = model.network(x)

    def error(network):
        return (_int8(network, surroundings, x) - wanted).square().mean().item()

    equal = error(equalise(hard, EqualiseOptions(), surroundings))
    assert equal < 2 * error(model)
    assert error(hard) > 50 * equal


@pytest.mark.slow
def test_resnet_20_with_channels_times_50_and_divided_by_50_answers_as_before(data_folder, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", str(data_folder))
    recipe = load_recipe("resnet20-cifar10").recipe
    model, data = build(recipe.model, recipe.seed), find_data(recipe.data)
    surroundings = replace(context(model), splits=data.splits)
    hard = harden(model, "alternating", surroundings)
    inputs = data.test.inputs[0][:100]
    with torch.no_grad():
        wanted = model.network(inputs).argmax(1)

    def agreement(network):
        return (_int8(network, surroundings, inputs).argmax(1) == wanted).float().mean().item()

    assert agreement(hard) < 0.3
    assert agreement(equalise(hard, EqualiseOptions(samples=32), surroundings)) >= 0.98
