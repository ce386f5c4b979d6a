"""Q/DQ programs: their integers by hand, and what PyTorch computes with them."""

import operator
from dataclasses import replace

import pytest
import torch
from torch import fx
from torch.nn import functional as F

from edgekit.data.samples import Samples
from edgekit.errors import FormatError
from edgekit.formats.conventions.convention import CONVENTIONS
from edgekit.formats.conventions.lowering import lower
from edgekit.formats.conventions.witness import Witness
from edgekit.nets.program import trace
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.passes import QuantizeOptions
from tests import nets
from tests.edgekit.formats.quantised import context, quantised


@pytest.mark.parametrize("counted", nets.COUNTED)
@pytest.mark.parametrize("name", sorted(CONVENTIONS))
def test_quantised_program_stays_close_to_the_float_network(counted: nets.Counted, name: str) -> None:
    model = quantised(counted)
    (x,) = model.example(4, seed=3)
    x = x.clamp(-2, 2)  # inside the calibrated range
    real = model.network(x).detach()
    lowered = lower(model, CONVENTIONS[name], 4)
    error = (lowered.module(x) - real).abs().max()
    assert 0 < error < 0.12 * real.abs().max()


def test_witness_agrees_with_the_program_to_a_code() -> None:
    model = quantised(nets.TINY_RESIDUAL)
    lowered = lower(model, CONVENTIONS["litert"], 8)
    (x,) = model.example(8, seed=5)
    (exact,) = Witness(lowered.module)(x)
    grid = lowered.outputs[0]
    assert grid is not None
    assert exact.dtype == torch.float32
    assert (exact - lowered.module(x)).abs().max() <= grid.scale * 1.01


def test_biases_are_codes_of_input_scale_times_weight_scale() -> None:
    model = quantised(nets.TINY_CONV, bias_correction="none")
    lowered = lower(model, CONVENTIONS["onnxruntime-arm"])
    assert model.table is not None
    codes = lowered.module.pointwise.bias_codes  # type: ignore[union-attr]
    scale = model.table.edges["/relu_1"].scale * model.table.weights["pointwise.weight"].scale
    # the bias itself, without its correction
    expected = torch.round(model.network.pointwise.bias / scale).int()  # type: ignore[union-attr, operator]
    assert codes.tolist() == expected.tolist()
    assert codes.dtype == torch.int32


def test_tensorrt_biases_stay_float() -> None:
    model = quantised(nets.TINY_CONV, bias_correction="none")
    lowered = lower(model, CONVENTIONS["tensorrt"])
    assert not any(row.role == "bias" for row in lowered.tensors)
    torch.testing.assert_close(lowered.module.pointwise.bias_codes, model.network.pointwise.bias.detach())  # type: ignore[union-attr]


def test_reduced_range_rounds_anew_into_seven_bits() -> None:
    model = quantised(nets.TINY_CONV)
    lowered = lower(model, CONVENTIONS["onnxruntime-x86"])
    codes = lowered.module.conv.weight_codes  # type: ignore[union-attr]
    assert int(codes.abs().max()) == 64
    program = trace(model)
    weight = program.module.conv.weight  # type: ignore[union-attr]
    scale = lowered.module.conv.weight_scale.reshape(-1, 1, 1, 1)  # type: ignore[union-attr, operator]
    assert ((codes * scale) - weight).abs().max() <= scale.max() / 2 * 1.001


def test_two_u8_s8_products_fit_in_16_bits_under_reduced_range() -> None:
    convention = CONVENTIONS["onnxruntime-x86"]
    assert 2 * convention.qmax * convention.weight_max <= 2**15 - 1
    assert 2 * CONVENTIONS["onnxruntime-x86-vnni"].qmax * 127 > 2**15 - 1


def test_a_model_without_a_table_is_refused() -> None:
    with pytest.raises(FormatError) as caught:
        lower(nets.model(nets.TINY_CONV), CONVENTIONS["litert"])
    assert "quantize" in caught.value.fix


def test_a_table_without_a_weight_is_refused() -> None:
    model = quantised(nets.TINY_CONV)
    assert model.table is not None
    table = replace(model.table, weights={})
    with pytest.raises(FormatError) as caught:
        lower(replace(model, table=table), CONVENTIONS["litert"])
    assert "no weight" in caught.value.what


@pytest.mark.parametrize("name", sorted(CONVENTIONS))
def test_a_bias_far_larger_than_its_weights_fits_in_every_convention(name: str) -> None:
    network = nets.model(nets.TINY_CONV).network
    with torch.no_grad():
        network.pointwise.weight.fill_(1e-8)  # type: ignore[union-attr, operator]
        network.pointwise.bias.fill_(50.0)  # type: ignore[union-attr, operator]
    plain = replace(nets.model(nets.TINY_CONV), network=network)
    model = quantize(plain, QuantizeOptions(), context(plain))
    (x,) = model.example(1, seed=3)
    real = network(x).detach()
    given = lower(model, CONVENTIONS[name]).module(x)
    assert (given - real).abs().max() < 0.05 * real.abs().max()


@pytest.mark.parametrize("name", sorted(CONVENTIONS))
def test_bias_correction_takes_back_the_mean_error_of_rounded_weights(name: str) -> None:
    plain = nets.model(nets.TINY_CONV)
    surroundings = context(plain)
    calibration = surroundings.splits.calibration
    x = calibration.inputs[0] + 3.0  # inputs with a mean, as behind a ReLU
    splits = replace(surroundings.splits, calibration=Samples((x,), calibration.labels))
    real = _first_layer(trace(plain).module, x, "conv.weight", "conv.bias")
    shifts = {}
    for correct in ("none", "analytic"):
        options = QuantizeOptions(bias_correction=correct)
        module = lower(quantize(plain, options, replace(surroundings, splits=splits)), CONVENTIONS[name]).module
        rounded = _first_layer(module, x, "conv.weight_codes", "conv.bias_codes")
        # inside only: at the zero-padded border a kernel meets fewer inputs, which the correction does not know
        shifts[correct] = float((rounded - real)[:, :, 1:-1, 1:-1].mean((0, 2, 3)).abs().max())
    assert shifts["analytic"] < 0.2 * shifts["none"]


def _first_layer(module: fx.GraphModule, x: torch.Tensor, weight: str, bias: str) -> torch.Tensor:
    """The first convolution with its weight and bias as real numbers."""
    tensors = []
    for name in (weight, bias):
        tensor = operator.attrgetter(name)(module)
        if not tensor.is_floating_point():
            scale = operator.attrgetter(name.replace("_codes", "_scale"))(module)
            tensor = tensor * scale.reshape(-1, *[1] * (tensor.dim() - 1))
        tensors.append(tensor)
    return F.conv2d(x, *tensors, padding=1)


@pytest.mark.parametrize("name", sorted(CONVENTIONS))
def test_codes_of_fewer_bits_are_stored_as_they_are_in_every_convention(name: str) -> None:
    model = quantised(nets.TINY_CONV, weights="int4")
    assert model.table is not None
    lowered = lower(model, CONVENTIONS[name])
    (row,) = (row for row in lowered.tensors if row.tensor == "pointwise.weight")
    assert (row.bits, row.dtype) == (4, "int8")
    stored = lowered.module.pointwise.weight_codes  # type: ignore[union-attr]
    codes = model.table.weights["pointwise.weight"]
    expected = codes.values() if name == "litert" else codes.codes
    torch.testing.assert_close(stored, expected, rtol=0, atol=0)
    assert int(codes.codes.abs().max()) == 7


def test_a_measured_shift_replaces_the_one_from_means_where_the_codes_are_the_tables() -> None:
    model = quantised(nets.TINY_CONV)
    assert model.table is not None
    shift = torch.linspace(-0.5, 0.7, 6)
    table = replace(model.table, shifts={"pointwise/conv2d": shift})
    plain = lower(replace(model, table=replace(model.table, means={})), CONVENTIONS["tensorrt"])
    bias = plain.module.pointwise.bias_codes  # type: ignore[union-attr]
    shifted = lower(replace(model, table=table), CONVENTIONS["tensorrt"])
    torch.testing.assert_close(shifted.module.pointwise.bias_codes, bias - shift)  # type: ignore[union-attr, operator]
    # fewer levels are other codes, of which the shift says nothing
    codes = [
        lower(replace(model, table=one), CONVENTIONS["onnxruntime-x86"]).module.pointwise.bias_codes  # type: ignore[union-attr]
        for one in (table, model.table)
    ]
    torch.testing.assert_close(*codes)


@pytest.mark.parametrize("change", [{"number": "e4m3"}, {"group": 2}])
def test_weights_that_integer_kernels_do_not_read_are_refused(change: dict[str, object]) -> None:
    model = quantised(nets.TINY_CONV)
    assert model.table is not None
    weights = model.table.weights | {"linear.weight": replace(model.table.weights["linear.weight"], **change)}  # type: ignore[arg-type]
    with pytest.raises(FormatError) as caught:
        lower(replace(model, table=replace(model.table, weights=weights)), CONVENTIONS["onnxruntime-arm"])
    assert "linear.weight" in caught.value.where


def test_four_bit_activations_are_limited_codes_of_eight_and_say_so() -> None:
    model = quantised(nets.TINY_RESIDUAL, activations="int4")
    lowered = lower(model, CONVENTIONS["onnxruntime-x86-vnni"], 4)
    rows = [row for row in lowered.tensors if row.role == "activation"]
    assert {(row.bits, row.dtype) for row in rows} == {(4, "uint8")}
    assert {row.node for row in lowered.in_float} >= {"stem/conv2d", "/add", "linear/linear"}
    assert all("simulated" in row.reason for row in lowered.in_float)
    (x,) = model.example(4, seed=3)
    (y,) = Witness(lowered.module)(3 * x)  # far beyond the calibrated range: limited, not merely clipped at 255
    (grid,) = lowered.outputs
    assert grid is not None
    codes = y / grid.scale + grid.zero_point
    assert float(codes.min()) >= -1e-3
    assert float(codes.max()) <= 15 + 1e-3


@pytest.mark.parametrize("name", ["litert", "tensorrt"])
def test_four_bit_activations_are_refused_where_nothing_simulates_them(name: str) -> None:
    with pytest.raises(FormatError) as caught:
        lower(quantised(nets.TINY_CONV, activations="int4"), CONVENTIONS[name])
    assert "4-bit" in caught.value.what
    assert "int8" in caught.value.fix
