import pytest
import torch

from edgekit.nets.quantisation import QuantisationTable, WeightCodes
from edgekit.numerics.minifloat import to_words
from edgekit.numerics.number import Minifloat

VALUES = torch.tensor([[1.5, -3.0, 0.0], [0.5, 6.0, -6.0]])


def test_values_of_integers_by_channel_and_by_group() -> None:
    codes = torch.tensor([[1, -2, 3], [4, 0, -7]], dtype=torch.int8)
    plain = WeightCodes(codes, torch.tensor([0.5, 2.0]), 0)
    assert plain.values().tolist() == [[0.5, -1.0, 1.5], [8.0, 0.0, -14.0]]
    other_axis = WeightCodes(codes, torch.tensor([1.0, 2.0, 3.0]), 1)
    assert other_axis.values().tolist() == [[1, -4, 9], [4, 0, -21]]
    grouped = WeightCodes(codes, torch.tensor([[1.0, 10.0], [2.0, 3.0]]), 0, "int4", group=2)
    assert grouped.values().tolist() == [[1, -2, 30], [8, 0, -21]]  # the last group is shorter


def test_groups_run_over_all_inputs_of_a_convolution() -> None:
    codes = torch.ones(2, 3, 2, 1, dtype=torch.int8)
    scale = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    values = WeightCodes(codes, scale, 0, "int4", group=4).values()
    assert values.shape == codes.shape
    assert values.flatten(1).tolist() == [[1, 1, 1, 1, 2, 2], [3, 3, 3, 3, 4, 4]]


def test_values_of_minifloats() -> None:
    scale = torch.tensor([1.0, 0.25])
    words = to_words(VALUES, torch.tensor([[1.0], [1.0]]), Minifloat(2, 1))
    weight = WeightCodes(words.view(torch.int8), scale, 0, "e2m1")
    assert weight.bits == 4
    assert weight.values().tolist() == (VALUES * scale[:, None]).tolist()


def test_words_of_eight_bits_use_the_sign_of_int8() -> None:
    words = to_words(torch.tensor([-448.0, 448.0]), 1.0, Minifloat(4, 3, reserved=1))
    weight = WeightCodes(words.view(torch.int8), torch.tensor([2.0]), 0, "fp8_e4m3fn")
    assert words.tolist() == [0b11111110, 0b01111110]
    assert weight.values().tolist() == [-896, 896]


@pytest.mark.parametrize(("name", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_values_of_halves(name: str, dtype: torch.dtype) -> None:
    values = torch.tensor([[0.1, -1e-6], [3.0, 60000.0]])
    weight = WeightCodes(values.to(dtype).view(torch.int16), torch.ones(1), 0, name)
    assert weight.bits == 16
    assert torch.equal(weight.values(), values.to(dtype).float())


def test_a_table_is_of_integers_where_its_activations_are() -> None:
    assert QuantisationTable({}, {}).integer
    assert QuantisationTable({}, {}, activations="int16").integer
    for name in ("float", "dynamic", "fp16", "e4m3"):
        assert not QuantisationTable({}, {}, activations=name).integer


@pytest.mark.parametrize(
    "codes",
    [
        WeightCodes(torch.zeros(2, 3, 2, dtype=torch.int8), torch.tensor([0.5, 2.0]), 0, "int4"),
        WeightCodes(torch.zeros(2, 3, 2, dtype=torch.int8), torch.tensor([[0.5, 1.0], [2.0, 3.0]]), 0, "int4", group=4),
        WeightCodes(torch.zeros(2, 3, 2, dtype=torch.int8), torch.tensor([0.5, 2.0]), 0, "e2m1"),
    ],
)
def test_points_of_the_same_grid_stand_for_themselves_times_their_scale(codes: WeightCodes) -> None:
    points = torch.tensor([-6.0, 4.0, 3.0, 2.0, 1.0, 0.0]).repeat(2).reshape(2, 3, 2)
    moved = codes.at(points)
    assert moved.codes.dtype == torch.int8
    assert moved.values().equal(points * codes.spread())
    assert codes.spread().flatten(1)[1].tolist() == ([2.0] * 4 + [3.0] * 2 if codes.group else [2.0] * 6)
