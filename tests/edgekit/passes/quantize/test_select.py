"""Samples chosen by the network's own features, and what of it is recorded."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.data.samples import Samples, Splits
from edgekit.data.selection import choose_indices, k_centre, sample_bins, with_range_guard
from edgekit.data.selection import dataset_bins as bins_of
from edgekit.errors import DataError, PassError
from edgekit.nets.load import find_outputs
from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.passes.quantize.quantize import quantize
from edgekit.passes.quantize.select import chosen
from edgekit.schema.calibration import CalibrationRow, Choose
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec
from tests import nets
from tests.edgekit.formats.quantised import context

COUNT = 43  # one batch and a part of one


def _tiny() -> tuple[Model, Context, Samples]:
    model = nets.model(nets.TINY_CONV)
    surroundings = context(model, COUNT)
    pool = surroundings.splits.calibration
    labelled = Samples((pool.inputs[0] * torch.linspace(0.1, 3, COUNT)[:, None, None, None],), torch.arange(COUNT) % 3)
    return model, replace(surroundings, splits=Splits(None, labelled, None, "")), labelled


def _activations(model: Model, inputs: Tensor) -> list[Tensor]:
    """Every activation of TINY_CONV, computed layer by layer."""
    net = model.network
    with torch.no_grad():
        first = net.norm(net.conv(inputs))  # type: ignore[operator]
        second = net.depthwise_norm(net.depthwise(first.relu()))  # type: ignore[operator]
        third = net.pointwise(second.relu())  # type: ignore[operator]
        mean = third.relu().mean((2, 3))
        last = net.linear(mean)  # type: ignore[operator]
    return [inputs, first, first.relu(), second, second.relu(), third, third.relu(), mean, last]


def _features(model: Model, inputs: Tensor) -> NDArray[np.float64]:
    return _activations(model, inputs)[-2].double().numpy()


@pytest.mark.parametrize("method", ["k-centre", "dataset-quantization"])
def test_features_are_what_the_last_layer_reads(method: str) -> None:
    model, surroundings, pool = _tiny()
    choose = Choose(method=method, count=12, seed=3, bins=4)  # type: ignore[arg-type]
    features = _features(model, pool.inputs[0])
    wanted = k_centre(features, 12, 3) if method == "k-centre" else sample_bins(bins_of(features, 4), 12, 3)
    assert chosen(model, choose, pool, surroundings).tolist() == wanted.tolist()


def test_features_of_a_convolution_are_averaged_over_positions() -> None:
    network = nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 1, 3)).eval()
    source = ModelSource(factory="none:none", inputs=(InputSpec(name="image", shape=(1, 2, 8, 8)),))
    model = Model(network, source, find_outputs(network, source))
    _, surroundings, pool = _tiny()
    with torch.no_grad():
        features = network[:2](pool.inputs[0]).mean((2, 3)).double().numpy()
    choose = Choose(method="k-centre", count=9)
    assert chosen(model, choose, pool, surroundings).tolist() == k_centre(features, 9, 0).tolist()


def test_the_guard_looks_at_every_activation_of_every_sample() -> None:
    model, surroundings, pool = _tiny()
    choose = Choose(method="random", count=41, range_guard=True)
    values = _activations(model, pool.inputs[0])
    magnitudes = torch.stack([v.flatten(1).abs().amax(1) for v in values], 1).double().numpy()
    plain = choose_indices(choose, None, pool.labels.numpy())
    assert chosen(model, choose, pool, surroundings).tolist() == with_range_guard(plain, magnitudes).tolist()


def test_a_network_without_weights_has_no_features() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Flatten()).eval()
    source = ModelSource(factory="none:none", inputs=(InputSpec(name="image", shape=(1, 2, 8, 8)),))
    model = Model(network, source, find_outputs(network, source))
    _, surroundings, pool = _tiny()
    with pytest.raises(PassError) as caught:
        chosen(model, Choose(method="k-centre", count=4), pool, surroundings)
    assert "random" in caught.value.fix


def _quantised(options: QuantizeOptions, choose: Choose | None = None) -> tuple[Model, CalibrationRow, Samples]:
    model, surroundings, pool = _tiny()
    rows: list[object] = []
    splits = replace(surroundings.splits, choose=choose)
    made = quantize(model, options, replace(surroundings, splits=splits, record=rows.append))
    (row,) = (found for found in rows if isinstance(found, CalibrationRow))
    return made, row, pool


def test_ranges_are_those_of_the_chosen_samples_and_the_row_says_which() -> None:
    choose = Choose(method="class-balanced", count=10, seed=7)
    made, row, pool = _quantised(QuantizeOptions(observer="min-max", choose=choose))
    wanted = choose_indices(choose, None, pool.labels.numpy())
    taken = pool.inputs[0][wanted]
    assert made.table is not None
    assert made.table.edges["input:image"].high == float(taken.max())
    assert (row.source, row.count, row.chosen, row.indices) == ("samples", 10, choose, tuple(wanted.tolist()))
    content = hashlib.sha256(b"(10, 2, 8, 8)\n" + taken.numpy().tobytes()).hexdigest()
    assert row.digest == content


def test_the_calibration_set_says_how_unless_the_step_does() -> None:
    own, other = Choose(count=10, seed=1), Choose(count=11, seed=2)
    assert _quantised(QuantizeOptions(), choose=own)[1].chosen == own
    assert _quantised(QuantizeOptions(choose=other), choose=own)[1].chosen == other


def test_fewer_samples_are_the_first_of_the_chosen() -> None:
    _, whole, _ = _quantised(QuantizeOptions(choose=Choose(count=20)))
    _, few, _ = _quantised(QuantizeOptions(choose=Choose(count=20), samples=6))
    assert few.indices == whole.indices[:6]
    assert few.count == 6


def test_without_a_choice_the_row_names_no_indices() -> None:
    _, row, pool = _quantised(QuantizeOptions(samples=5))
    assert (row.count, row.chosen, row.indices) == (5, None, ())
    assert row.digest == hashlib.sha256(b"(5, 2, 8, 8)\n" + pool.inputs[0][:5].numpy().tobytes()).hexdigest()


def test_too_many_are_refused() -> None:
    with pytest.raises(DataError):
        _quantised(QuantizeOptions(choose=Choose(count=COUNT + 1)))


def test_nothing_is_recorded_where_nothing_is_decided_on_samples() -> None:
    model, surroundings, _ = _tiny()
    rows: list[object] = []
    options = QuantizeOptions(weights="fp16", activations="float")
    quantize(model, options, replace(surroundings, record=rows.append))
    assert rows == []
