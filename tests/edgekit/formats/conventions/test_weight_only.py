"""Programs whose weights are what codes stand for, and the roundings of dynamic activations, by hand."""

from dataclasses import replace

import pytest
import torch

from edgekit.errors import FormatError
from edgekit.formats.conventions.convention import CONVENTIONS
from edgekit.formats.conventions.lowering import lower
from edgekit.formats.conventions.weight_only import affine_rounding, decode_weights, group_rounding, round_inputs
from edgekit.nets.graph import tensor_of
from edgekit.nets.program import Program, trace
from edgekit.nets.quantisation import Kept, QuantisationTable
from edgekit.numerics.bias import rounding_shift
from tests.edgekit.formats.mixers import dequantised, quantised_mixer


def _tensor(program: Program, name: str) -> torch.Tensor:
    return tensor_of(program.module, next(n for n in program.module.graph.nodes if n.target == name))


def _table(**options: object) -> QuantisationTable:
    table = quantised_mixer(**options).table
    assert table is not None
    return table


def test_weights_are_what_their_codes_stand_for_and_biases_take_back_the_shift() -> None:
    model = quantised_mixer(weights="int4", activations="float", bias_correction="analytic")
    assert model.table is not None
    before, after = trace(model), trace(model)
    rows = decode_weights(after, model.table)
    for layer in ("patches", "depthwise", "up", "classes"):
        values = model.table.weights[f"{layer}.weight"].values()
        assert torch.equal(_tensor(after, f"{layer}.weight"), values)
        kind = "linear" if layer in ("up", "classes") else "conv2d"
        shift = rounding_shift(values - _tensor(before, f"{layer}.weight"), model.table.means[f"{layer}/{kind}"])
        assert float(shift.abs().max()) > 0
        torch.testing.assert_close(_tensor(after, f"{layer}.bias"), _tensor(before, f"{layer}.bias") - shift)
    assert [row.tensor for row in rows] == [f"{n}.weight" for n in ("patches", "depthwise", "up", "down", "classes")]
    assert {(row.bits, row.dtype, row.group, row.zero_point) for row in rows} == {(4, "int4", None, (0,))}


def test_a_shift_that_was_measured_replaces_the_one_from_means() -> None:
    model = quantised_mixer(weights="int4", activations="float", bias_correction="analytic")
    assert model.table is not None
    before, after = trace(model), trace(model)
    decode_weights(after, replace(model.table, shifts={"classes/linear": torch.arange(5.0)}))
    torch.testing.assert_close(_tensor(after, "classes.bias"), _tensor(before, "classes.bias") - torch.arange(5.0))


def test_a_layer_kept_in_float_is_left_alone() -> None:
    table = replace(_table(weights="int4", activations="float"), kept={"classes/linear": Kept("float", "test")})
    model = quantised_mixer(weights="int4", activations="float")
    program = trace(model)
    rows = decode_weights(program, table)
    assert torch.equal(_tensor(program, "classes.weight"), model.network.classes.weight)
    assert "classes.weight" not in {row.tensor for row in rows}


def test_groups_are_named_but_their_scales_are_not_listed() -> None:
    rows = decode_weights(trace(quantised_mixer()), _table(weights="int4", activations="float", group_size=16))
    assert {(row.group, row.scale) for row in rows} == {(16, ())}


def test_minifloat_activations_have_no_program_and_another_network_no_weights() -> None:
    program = trace(quantised_mixer())
    with pytest.raises(FormatError, match="e4m3"):
        decode_weights(program, _table(weights="e4m3", activations="e4m3"))
    table = _table(weights="int8", activations="float")
    del (weights := dict(table.weights))["down.weight"]
    with pytest.raises(FormatError, match=r"down\.weight"):
        decode_weights(program, replace(table, weights=weights))


@pytest.mark.parametrize("name", ["onnxruntime-arm", "litert"])
def test_lowering_gives_a_program_without_grids(name: str) -> None:
    model = quantised_mixer(weights="int8", activations="float")
    lowered = lower(model, CONVENTIONS[name], 2)
    (x,) = model.example(2, seed=4)
    torch.testing.assert_close(lowered.module(x), dequantised(model)(x).detach(), rtol=1e-4, atol=1e-5)
    assert lowered.inputs == lowered.outputs == (None,)
    assert lowered.in_float == ()
    assert {row.role for row in lowered.tensors} == {"weight"}


def test_affine_rounding_by_hand() -> None:
    # -1 .. 3 in 255 steps: zero point 64 (63.75), and 0.01 lies between steps 0 and 1 of 4 / 255 = 0.01569
    values = torch.tensor([[-1.0, 3.0, 0.0, 0.01, 0.005]])
    step = 4 / 255
    expected = [-64 * step, 191 * step, 0.0, step, 0.0]
    assert affine_rounding(None)(values)[0].tolist() == pytest.approx(expected)
    positive = torch.tensor([[2.01, 4.0]])  # the grid begins at 0 all the same
    assert affine_rounding(None)(positive)[0].tolist() == pytest.approx([128 * step, 4.0])


def test_what_shares_a_grid() -> None:
    values = torch.tensor([[[0.001, 1.0], [0.001, 100.0]]])
    whole, rows = affine_rounding(None)(values), affine_rounding((-1,))(values)
    assert whole[0, 0, 0] == 0
    assert rows[0, 0, 0] == 0
    assert whole[0, 0, 1] != 1.0  # on a grid of steps of 100 / 255
    assert rows[0, 0, 1] == 1.0
    images = torch.stack([values, values / 100])
    assert torch.equal(affine_rounding((-3, -2, -1))(images)[0], affine_rounding(None)(values))
    torch.testing.assert_close(affine_rounding((-3, -2, -1))(images)[1], affine_rounding(None)(values) / 100)


def test_group_rounding_by_hand() -> None:
    values = torch.tensor([[127.0, 0.4, 0.6, 1.27, -0.004, 0.016]])
    assert group_rounding(3)(values)[0].tolist() == pytest.approx([127, 0, 1, 1.27, 0, 0.02])
    assert group_rounding(4)(values)[0].tolist() == pytest.approx([127, 0, 1, 1, -0.004, 0.016], abs=1e-4)


def test_all_zero_inputs_stay_zero() -> None:
    zeros = torch.zeros(2, 8)
    assert torch.equal(affine_rounding(None)(zeros), zeros)
    assert torch.equal(group_rounding(4)(zeros), zeros)


def test_rounded_inputs_are_read_by_the_chosen_layers_alone() -> None:
    model = quantised_mixer(weights="int8", activations="dynamic")
    assert model.table is not None
    program = trace(model)
    decode_weights(program, model.table)
    (x,) = model.example(1, seed=4)
    plain = program.module(x)
    node = program.node("classes/linear")
    read: list[torch.Tensor] = []

    def record(values: torch.Tensor) -> torch.Tensor:
        read.append(values)
        return torch.zeros_like(values)

    round_inputs(program.module, {node: record})
    assert torch.equal(program.module(x)[0], _tensor(program, "classes.bias"))
    assert read[0].shape == (1, 40)
    assert not torch.equal(plain[0], _tensor(program, "classes.bias"))
