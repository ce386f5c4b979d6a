"""The quantisation table against codes worked out here, and what the pass leaves alone."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from edgekit.data.samples import Samples, Splits
from edgekit.errors import PassError
from edgekit.nets.graph import tensor_of
from edgekit.nets.model import Model
from edgekit.nets.program import trace
from edgekit.numerics.quantise import decode, encode
from edgekit.passes.quantize.quantize import quantize
from edgekit.passes.quantize.weights import BIAS_MAX
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec, OutputSpec
from tests import nets
from tests.edgekit.formats.quantised import context, quantised


def test_codes_are_the_folded_weights_over_their_scales() -> None:
    model = quantised(nets.TINY_CONV)
    assert model.table is not None
    program = trace(model)
    folded = next(n for n in program.module.graph.nodes if n.target == "conv.weight")
    weight = tensor_of(program.module, folded)
    stored = model.table.weights["conv.weight"]
    assert stored.codes.dtype == torch.int8
    for channel in range(4):
        scale = weight[channel].abs().max().item() / 127
        assert stored.scale[channel].item() == pytest.approx(scale, rel=1e-6)
        expected = torch.round(weight[channel] / stored.scale[channel])
        assert stored.codes[channel].float().equal(expected)


def test_every_activation_has_a_range_that_its_samples_reach() -> None:
    model = nets.model(nets.TINY_CONV)
    surroundings = context(model, samples=35)  # a full batch and a remainder
    table = quantize(model, QuantizeOptions(observer="min-max"), surroundings).table
    assert table is not None
    inputs = surroundings.splits.calibration.inputs[0]
    assert table.edges["input:image"].high == pytest.approx(float(inputs.max()))
    assert table.edges["input:image"].low == pytest.approx(float(inputs.min()))
    outputs = model.network(inputs).detach()
    assert table.edges["linear/linear"].high == pytest.approx(max(0.0, float(outputs.max())), rel=1e-4)


def test_samples_limits_what_is_seen() -> None:
    model = nets.model(nets.TINY_CONV)
    surroundings = context(model)
    table = quantize(model, QuantizeOptions(samples=3, observer="min-max"), surroundings).table
    assert table is not None
    assert table.edges["input:image"].high == float(surroundings.splits.calibration.inputs[0][:3].max())


def test_a_channel_with_a_large_bias_keeps_it_within_int32() -> None:
    model = nets.model(nets.TINY_CONV)
    with torch.no_grad():
        model.network.pointwise.weight[0] = 1e-9  # type: ignore[union-attr, index, operator]
        model.network.pointwise.bias[0] = 50.0  # type: ignore[union-attr, index, operator]
    table = quantize(model, QuantizeOptions(), context(model)).table
    assert table is not None
    source = table.edges["/relu_1"]
    codes = 50.0 / (source.scale * table.weights["pointwise.weight"].scale[0].item())
    assert codes <= BIAS_MAX * 1.001


def test_the_float_network_is_left_as_it_was() -> None:
    model = nets.model(nets.TINY_CONV)
    before = copy.deepcopy(model.network.state_dict())
    after = quantize(model, QuantizeOptions(), context(model))
    assert model.table is None
    assert after.history[-1] == "quantize"
    for name, tensor in after.network.state_dict().items():
        assert tensor.equal(before[name])


def test_no_samples_is_an_error() -> None:
    model = nets.model(nets.TINY_CONV)
    empty = Samples((torch.zeros(0, 2, 8, 8),), torch.zeros(0, dtype=torch.int64))
    surroundings = context(model)
    surroundings = replace(surroundings, splits=Splits(None, empty, None, ""))
    with pytest.raises(PassError) as caught:
        quantize(model, QuantizeOptions(), surroundings)
    assert "empty" in caught.value.what


def test_an_overflowing_network_is_refused_with_the_activation_named() -> None:
    model = nets.model(nets.TINY_CONV)
    with torch.no_grad():
        model.network.linear.weight.fill_(1e38)  # type: ignore[union-attr, operator]
        model.network.linear.weight.mul_(1e5)  # type: ignore[union-attr, operator]
    with pytest.raises(PassError) as caught:
        quantize(model, QuantizeOptions(), context(model))
    assert "linear" in caught.value.what


def test_the_mse_observer_loses_less_than_min_max_on_a_bell_curve() -> None:
    model = nets.model(nets.TINY_CONV)
    surroundings = context(model, samples=2000)  # 256,000 values, the largest of which are rare
    inputs = surroundings.splits.calibration.inputs[0]
    losses = {}
    for observer in ("mse", "min-max"):
        table = quantize(model, QuantizeOptions(observer=observer), surroundings).table  # type: ignore[arg-type]
        assert table is not None
        edge = table.edges["input:image"]
        codes = encode(inputs, edge.scale, edge.zero_point, -128, 127)
        losses[observer] = float((decode(codes, edge.scale, edge.zero_point) - inputs).square().mean())
    assert losses["mse"] < 0.95 * losses["min-max"]


class _Siamese(nn.Module):
    """One layer on two tensors of very different size, so that its bias needs two grids and its weight one scale."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        nn.init.constant_(self.conv.weight, 1e-6)
        nn.init.constant_(self.conv.bias, 1000.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.conv(y * y)


def test_a_weight_of_two_layers_has_the_scale_that_both_biases_fit() -> None:
    source = ModelSource(factory="tests:siamese", inputs=(InputSpec(name="image", shape=(1, 2, 4, 4)),))
    model = Model(_Siamese().eval(), source, (OutputSpec(name="output", shape=(1, 2, 4, 4)),))
    table = quantize(model, QuantizeOptions(), context(model)).table
    assert table is not None
    (weight,) = table.weights.values()
    for edge in ("input:image", "/mul"):
        assert (1000.0 / (table.edges[edge].scale * weight.scale) <= BIAS_MAX * 1.0001).all()
