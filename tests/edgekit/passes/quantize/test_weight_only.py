"""Tables without integer activations: codes against formulas written out here, and what each scheme leaves out."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import PassError
from edgekit.nets.graph import tensor_of
from edgekit.nets.model import Model
from edgekit.nets.program import trace
from edgekit.nets.quantisation import QuantisationTable
from edgekit.nets.saved import load_model, save_model, state_bytes
from edgekit.numerics.minifloat import round_to_minifloat
from edgekit.numerics.number import Minifloat
from edgekit.passes.quantize.quantize import quantize
from edgekit.passes.quantize.simulate import Simulation, simulate
from edgekit.schema.passes import QuantizeOptions
from tests import nets
from tests.edgekit.formats.quantised import context, quantised


def _table(**options: object) -> QuantisationTable:
    table = quantised(nets.TINY_CONV, **options).table
    assert table is not None
    return table


def _weight(name: str) -> Tensor:
    program = trace(nets.model(nets.TINY_CONV))
    return tensor_of(program.module, next(n for n in program.module.graph.nodes if n.target == name))


def test_groups_share_a_scale_along_the_flattened_inputs() -> None:
    weight = _weight("conv.weight").flatten(1)  # (4, 18): a group of 16, and one of 2
    stored = _table(weights="int4", activations="float", group_size=16).weights["conv.weight"]
    assert (stored.group, stored.number, stored.codes.dtype) == (16, "int4", torch.int8)
    expected = torch.stack([weight[:, :16].abs().amax(1), weight[:, 16:].abs().amax(1)], 1) / 7
    torch.testing.assert_close(stored.scale, expected)
    for group, part in enumerate((slice(0, 16), slice(16, 18))):
        codes = (weight[:, part] / stored.scale[:, group, None]).round()
        assert stored.codes.flatten(1)[:, part].float().equal(codes)
    assert int(stored.codes.abs().max()) == 7


def test_groups_lose_less_than_channels() -> None:
    weight = _weight("depthwise.weight")
    assert weight.shape[1:] == (1, 3, 3)  # shorter than a group: one scale a channel
    errors = {}
    for group in (None, 16):
        table = _table(weights="int4", activations="float", group_size=group)
        errors[group] = {n: float((table.weights[n].values() - _weight(n)).square().sum()) for n in table.weights}
    assert errors[16]["conv.weight"] < errors[None]["conv.weight"]
    assert errors[16]["depthwise.weight"] == errors[None]["depthwise.weight"]


def test_a_weight_only_table_has_means_but_no_edges() -> None:
    table = _table(weights="int8", activations="float")
    assert table.edges == {}
    assert table.activations == "float"
    assert set(table.means) == {"conv/conv2d", "depthwise/conv2d", "pointwise/conv2d", "linear/linear"}
    assert _table(weights="int8", activations="float", bias_correction="none").means == {}


@pytest.mark.parametrize("name", ["int4", "e2m1"])
def test_least_error_scales_lose_less(name: str) -> None:
    def error(**options: object) -> float:
        table = _table(weights=name, activations="float", **options)
        return sum(float((w.values() - _weight(n)).square().sum()) for n, w in table.weights.items())

    assert error(weight_observer="mse") < error()
    if name == "int4":
        assert error(weight_observer="mse", group_size=16) < error(group_size=16)


@pytest.mark.parametrize(("name", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_halves_are_pytorchs_own_rounding(name: str, dtype: torch.dtype) -> None:
    table = _table(weights=name, activations="float")
    for weight, stored in table.weights.items():
        assert torch.equal(stored.values(), _weight(weight).to(dtype).float())
    assert table.means == {}  # nothing was calibrated: there is nothing to correct


def test_a_weight_too_large_for_fp16_is_named() -> None:
    model = nets.model(nets.TINY_CONV)
    with torch.no_grad():
        model.network.pointwise.weight[0, 0] = 1e5
    with pytest.raises(PassError) as caught:
        quantize(model, QuantizeOptions(weights="fp16", activations="fp16"), context(model))
    assert "pointwise/conv2d" in caught.value.what
    assert "1e+05" in caught.value.what
    table = quantize(model, QuantizeOptions(weights="bf16", activations="float"), context(model)).table
    assert table is not None
    assert table.weights["pointwise.weight"].values()[0, 0].item() == pytest.approx(1e5, rel=2**-8)


@pytest.mark.parametrize(
    ("name", "number"),
    [("e3m2", Minifloat(3, 2)), ("fp8_e4m3fn", Minifloat(4, 3, 1)), ("fp8_e5m2", Minifloat(5, 2, 4))],
)
def test_minifloat_weights_have_their_largest_on_the_largest_value(name: str, number: Minifloat) -> None:
    stored = _table(weights=name, activations="float").weights["conv.weight"]
    weight = _weight("conv.weight")
    scale = weight.abs().amax((1, 2, 3)) / number.largest
    torch.testing.assert_close(stored.scale, scale)
    expected = round_to_minifloat(weight, stored.scale.reshape(-1, 1, 1, 1), number)
    assert torch.equal(stored.values(), expected)


def test_minifloat_activations_have_a_symmetric_scale() -> None:
    table = _table(weights="e2m3", activations="e4m3", observer="min-max")
    edge = table.edges["linear/linear"]
    model = nets.model(nets.TINY_CONV)
    largest = float(model.network(context(model).splits.calibration.inputs[0]).detach().abs().max())
    assert (edge.number, edge.zero_point, edge.bits) == ("e4m3", 0, 8)
    assert edge.high == -edge.low == pytest.approx(largest, rel=1e-4)
    assert edge.scale == pytest.approx(largest / 480, rel=1e-4)


@pytest.mark.parametrize("observer", ["mse", "percentile"])
def test_observers_of_minifloat_activations_cut_no_more_than_they_gain(observer: str) -> None:
    plain = _table(weights="e2m1", activations="e2m1", observer="min-max").edges
    other = _table(weights="e2m1", activations="e2m1", observer=observer, percentile=0.9).edges
    smaller = [name for name in plain if other[name].scale < 0.99 * plain[name].scale]
    assert len(smaller) > len(plain) / 2
    assert all(other[name].scale <= plain[name].scale * 1.001 for name in plain)


def test_simulation_rounds_activations_and_weights_to_minifloats() -> None:
    model = quantised(nets.TINY_CONV, weights="e3m2", activations="e3m3", bias_correction="none", observer="min-max")
    assert model.table is not None
    program = trace(model, 8)
    (x,) = model.example(8, seed=1)
    edges, weights = model.table.edges, model.table.weights

    def on_grid(values: Tensor, name: str) -> Tensor:
        return round_to_minifloat(values, edges[name].scale, Minifloat(3, 3))

    network = model.network
    y = on_grid(x, "input:image")
    for layer, end in (("conv", "/relu"), ("depthwise", "/relu_1"), ("pointwise", "/relu_2")):
        module = getattr(network, layer)
        node = next(n for n in program.module.graph.nodes if n.target == f"{layer}.bias")
        bias = tensor_of(program.module, node)
        y = nn.functional.conv2d(
            y, weights[f"{layer}.weight"].values(), bias, module.stride, module.padding, groups=module.groups
        )
        y = on_grid(y.relu(), end)
    y = on_grid(y.mean((2, 3), keepdim=True), "/adaptive_avg_pool2d")
    y = on_grid(y.flatten(1), "/flatten")
    y = on_grid(nn.functional.linear(y, weights["linear.weight"].values(), network.linear.bias), "linear/linear")
    torch.testing.assert_close(simulate(Simulation(program, model.table), x, 8), y, rtol=1e-5, atol=1e-5)


def test_bytes_count_the_bits_of_each_format(tmp_path: object) -> None:
    def count(**options: object) -> int:
        return state_bytes(quantised(nets.TINY_CONV, **options))

    # weights of conv 72, depthwise 36, pointwise 24, linear 18: 150; their channels 4 + 4 + 6 + 3 = 17
    plain = state_bytes(nets.model(nets.TINY_CONV)) - 4 * 150
    assert count(weights="fp16", activations="float") == plain + 2 * 150 + 4 * 4
    assert count(weights="e2m3", activations="float") == plain + (54 + 27 + 18 + 14) + 4 * 17
    assert count(weights="int4", activations="float", group_size=16) == plain + 75 + 4 * (4 * 2 + 4 + 6 + 3)


@pytest.mark.parametrize("weights", ["fp16", "e4m3", "int4"])
def test_a_saved_table_stands_for_the_same_numbers(weights: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = quantised(nets.TINY_CONV, weights=weights, activations="float")
    save_model(model, tmp_path)
    table = load_model(tmp_path).table
    assert table is not None
    assert model.table is not None
    assert table.activations == "float"
    for name, stored in model.table.weights.items():
        assert torch.equal(table.weights[name].values(), stored.values())


def test_an_activation_that_is_not_finite_is_named() -> None:
    class Overflow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.exp(x * 1000)

    plain: Model = nets.model(nets.TINY_CONV)
    model = replace(plain, network=Overflow(), outputs=(plain.outputs[0].model_copy(update={"shape": (1, 2, 8, 8)}),))
    with pytest.raises(PassError, match="infinity"):
        quantize(model, QuantizeOptions(weights="e4m3", activations="e4m3"), context(model))
