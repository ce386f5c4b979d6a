"""Samples made from batch-norm statistics: the statistics are met, the network is left alone, the seed decides."""

import copy
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from edgekit.data.samples import Samples, Splits
from edgekit.errors import PassError
from edgekit.nets.load import find_outputs
from edgekit.nets.model import Model
from edgekit.passes.quantize.data_free import synthetic_samples
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.calibration import CalibrationRow, Choose
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec
from tests.edgekit.formats.quantised import context

MEAN, STD = 30.0, 12.0  # of the inputs that the statistics come from: far from noise of mean 0 and variance 1


def _model(seed: int = 0) -> tuple[Model, Tensor]:
    """A network whose batch norms were run over real inputs, and those inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6, momentum=None), nn.ReLU(),
            nn.Conv2d(6, 8, 3, 2), nn.BatchNorm2d(8, momentum=None), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3),
        )  # fmt: skip
        inputs = MEAN + STD * torch.randn(256, 2, 8, 8).cumsum(2) / 3
    with torch.no_grad():
        network.train()(inputs)
    source = ModelSource(factory="none:none", inputs=(InputSpec(name="image", shape=(1, 2, 8, 8)),))
    return Model(network.eval(), source, find_outputs(network, source)), inputs


def _statistics(network: nn.Module, inputs: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Mean and standard deviation of every batch norm's input channels."""
    found = []
    values = inputs
    with torch.no_grad():
        for layer in network.children():
            if isinstance(layer, nn.BatchNorm2d):
                found.append((values.mean((0, 2, 3)), values.std((0, 2, 3))))
            values = layer(values)
    return found


def test_the_statistics_of_the_made_samples_are_those_remembered() -> None:
    model, _ = _model()
    made = synthetic_samples(model, 32, context(model)).inputs[0]
    assert made.shape == (32, 2, 8, 8)
    norms = [layer for layer in model.network.children() if isinstance(layer, nn.BatchNorm2d)]
    noise = torch.randn(made.shape, generator=torch.Generator().manual_seed(0))
    far = _statistics(model.network, noise)
    for norm, (mean, std), (noise_mean, _) in zip(norms, _statistics(model.network, made), far, strict=True):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        unit = norm.running_var.mean().sqrt()
        assert (mean - norm.running_mean).abs().max() < 0.15 * unit
        assert (std - norm.running_var.sqrt()).abs().max() < 0.15 * unit
        assert (noise_mean - norm.running_mean).abs().max() > unit


def test_ranges_are_near_those_of_real_samples_and_noise_is_not() -> None:
    model, inputs = _model()
    surroundings = context(model)

    def scales(**options: object) -> Tensor:
        table = quantize(model, QuantizeOptions(**options), surroundings).table  # type: ignore[arg-type]
        assert table is not None
        return torch.tensor([edge.scale for edge in table.edges.values()])

    noise = scales()
    surroundings = replace(surroundings, splits=Splits(None, Samples((inputs,), torch.zeros(256).long()), None, ""))
    real = scales()
    made = scales(calibration="data-free")
    assert (made / real).log2().abs().max() < 1
    assert (noise / real).log2().abs().max() > 2


def test_the_network_is_left_as_it_was() -> None:
    model, _ = _model()
    before = copy.deepcopy(model.network.state_dict())
    synthetic_samples(model, 4, context(model))
    assert all(tensor.equal(before[name]) for name, tensor in model.network.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.network.parameters())
    assert not any(module._forward_pre_hooks for module in model.network.modules())


def test_the_seed_decides() -> None:
    model, _ = _model()
    surroundings = context(model)
    one, again, other = (synthetic_samples(model, 3, replace(surroundings, seed=seed)).inputs[0] for seed in (5, 5, 6))
    assert one.equal(again)
    assert not one.equal(other)


def test_the_row_says_that_the_samples_are_made_and_none_was_read() -> None:
    model, _ = _model()
    rows: list[object] = []
    empty = Samples((torch.zeros(0, 2, 8, 8),), torch.zeros(0, dtype=torch.int64))
    surroundings = replace(context(model), record=rows.append, splits=Splits(None, empty, None, ""), seed=3)
    quantize(model, QuantizeOptions(calibration="data-free", samples=5), surroundings)
    (row,) = rows
    assert isinstance(row, CalibrationRow)
    assert (row.source, row.count, row.seed, row.indices) == ("synthetic", 5, 3, ())


def test_a_network_without_statistics_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False)).eval()
    source = ModelSource(factory="none:none", inputs=(InputSpec(name="image", shape=(1, 2, 8, 8)),))
    model = Model(network, source, find_outputs(network, source))
    with pytest.raises(PassError) as caught:
        synthetic_samples(model, 4, context(model))
    assert "data-free" in caught.value.where


def test_choosing_among_made_samples_is_refused() -> None:
    with pytest.raises(ValidationError, match="data-free"):
        QuantizeOptions(calibration="data-free", choose=Choose(count=3))
