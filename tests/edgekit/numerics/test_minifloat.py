"""Minifloats against brute force over all words, against integers, and against PyTorch's own 8-bit floats."""

import pytest
import torch
from torch import Tensor

from edgekit.numerics.minifloat import (
    from_words,
    least_error_scales,
    minifloat_scales,
    neighbours,
    round_to_minifloat,
    spacing,
    to_words,
    value_table,
)
from edgekit.numerics.number import Minifloat, find_number
from edgekit.numerics.quantise import decode, encode
from edgekit.numerics.ranges import SHRINKS

SPLITS = [Minifloat(e, bits - 1 - e) for bits in range(3, 9) for e in range(1, bits)]
OCP = [Minifloat(4, 3, reserved=1), Minifloat(5, 2, reserved=4)]
FORMATS = [pytest.param(n, id=f"e{n.exponent}m{n.mantissa}" + "ocp" * (n.reserved > 0)) for n in [*SPLITS, *OCP]]


def _values(number: Minifloat) -> Tensor:
    """float64: everything a rounding must get right: grid points, midpoints, just beside them, tiny and too large."""
    table = value_table(number).double()
    points = table[table.isfinite()].sort().values
    middles = (points[1:] + points[:-1]) / 2
    near = torch.cat([middles * (1 + d) for d in (-1e-6, 1e-6)])
    generator = torch.Generator().manual_seed(1)
    spread = torch.randn(2000, generator=generator, dtype=torch.float64) * 2 ** (
        torch.rand(2000, generator=generator, dtype=torch.float64) * 20 - 12
    )
    return torch.cat([points, middles, near, spread, points * 1.3, torch.tensor([0.0, 1e-30, 1e9, -1e9])])


@pytest.mark.parametrize("number", FORMATS)
def test_every_word_is_its_own_nearest(number: Minifloat) -> None:
    words = torch.arange(1 << number.bits)
    values = value_table(number)
    real = values.isfinite()
    assert int((~real).sum()) == 2 * number.reserved
    back = to_words(values[real], 1.0, number)
    expected = torch.where(values[real] == 0, 0, words[real])  # -0 is 0
    assert torch.equal(back.long(), expected)


def test_a_word_by_hand() -> None:
    # e3m2, bias 3: 1 101 10 is -(2^(5-3)) * (1 + 2/4) = -6; 0 000 01 is 2^-2 / 4
    number = find_number("e3m2")
    assert isinstance(number, Minifloat)
    assert from_words(torch.tensor([0b110110, 0b000001]), 10.0, number).tolist() == [-60.0, 0.625]
    assert to_words(torch.tensor([-60.0, 0.625]), 10.0, number).tolist() == [0b110110, 0b000001]


@pytest.mark.parametrize("number", FORMATS)
def test_rounding_is_the_nearest_of_all_grid_points(number: Minifloat) -> None:
    table = value_table(number).double()
    points = table[table.isfinite()]
    values = _values(number)
    distance = (values[:, None] - points).abs().min(1).values
    torch.testing.assert_close((round_to_minifloat(values, 1.0, number) - values).abs(), distance, rtol=0, atol=0)
    assert torch.isin(round_to_minifloat(values, 1.0, number), points).all()


@pytest.mark.parametrize("number", FORMATS)
def test_ties_go_to_the_even_mantissa(number: Minifloat) -> None:
    points = value_table(number)[: number.words].double()
    lower = torch.arange(number.words - 1)
    rounded = round_to_minifloat((points[1:] + points[:-1]) / 2, 1.0, number)
    # without mantissa bits every tie is half way in its binade, and goes up; but the one next to zero goes to zero
    up = (lower & 1).bool() if number.mantissa else lower > 0
    assert torch.equal(rounded, torch.where(up, points[1:], points[:-1]))


@pytest.mark.parametrize("number", FORMATS)
def test_rounding_twice_is_rounding_once_and_order_is_kept(number: Minifloat) -> None:
    values = _values(number).sort().values
    once = round_to_minifloat(values, 1.0, number)
    assert torch.equal(round_to_minifloat(once, 1.0, number), once)
    assert (once.diff() >= 0).all()


@pytest.mark.parametrize("number", FORMATS)
def test_error_is_relative_where_normal_and_absolute_where_not(number: Minifloat) -> None:
    scale = 0.37
    values = _values(number)
    values = values[values.abs() <= number.largest] * scale
    error = (round_to_minifloat(values, scale, number) - values).abs()
    normal = values.abs() >= scale * 2.0 ** (1 - number.bias)
    rounding = 1 + 1e-9  # of the division by the scale
    assert (error <= values.abs() * 2.0 ** -(number.mantissa + 1) * rounding)[normal].all()
    assert (error <= scale * 2.0 ** (-number.bias - number.mantissa) * rounding)[~normal].all()


@pytest.mark.parametrize("mantissa", range(1, 7))
def test_one_exponent_bit_is_a_symmetric_integer(mantissa: int) -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 2
    number, largest = Minifloat(1, mantissa), 2 ** (mantissa + 1) - 1
    step = number.largest / largest
    expected = decode(encode(values, step, 0, -largest, largest), step)
    assert torch.equal(round_to_minifloat(values, 1.0, number), expected)
    assert torch.equal(value_table(number)[: largest + 1], torch.arange(largest + 1) * step)


@pytest.mark.parametrize(("name", "dtype"), [("fp8_e4m3fn", torch.float8_e4m3fn), ("fp8_e5m2", torch.float8_e5m2)])
def test_outside_witness_pytorchs_own_8_bit_floats(name: str, dtype: torch.dtype) -> None:
    number = find_number(name)
    assert isinstance(number, Minifloat)
    values = _values(number).float()
    values = values[values.abs() <= number.largest]
    assert torch.equal(round_to_minifloat(values, 1.0, number), values.to(dtype).float())
    words = torch.arange(256).to(torch.uint8)
    theirs = words.view(dtype).float()
    real = value_table(number).isfinite()
    assert torch.equal(value_table(number)[real], theirs[real])
    assert not theirs[~real].isfinite().any()


@pytest.mark.parametrize("exponent", [1, 2, 3, 4])
def test_more_mantissa_with_one_exponent_and_scale_never_errs_more(exponent: int) -> None:
    values = torch.randn(2000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    values = values[values.abs() <= Minifloat(exponent, 1).largest]
    errors = [(round_to_minifloat(values, 1.0, Minifloat(exponent, m)) - values).abs() for m in (1, 2, 3)]
    assert (errors[1] <= errors[0]).all()
    assert (errors[2] <= errors[1]).all()


def test_spacing_is_that_of_the_value_not_of_what_it_rounds_to() -> None:
    number = Minifloat(2, 1)  # 0 0.5 1 1.5 2 3 4 6
    values = torch.tensor([0.0, 0.6, 1.0, 1.99, 2.0, -2.1, 4.0])
    assert spacing(values, number).tolist() == [0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 2.0]


def test_neighbours_by_hand() -> None:
    number = Minifloat(2, 1)  # 0 0.5 1 1.5 2 3 4 6
    values = torch.tensor([0.2, -0.2, 1.9, 2.5, -4.5, 5.0, 6.0, 9.0, -9.0, 1.0])
    lower, upper = neighbours(values * 10, 10.0, number)
    assert lower.tolist() == [0, -5, 15, 20, -60, 40, 60, 60, -60, 10]
    assert upper.tolist() == [5, 0, 20, 30, -40, 60, 60, 60, -40, 15]


@pytest.mark.parametrize("number", FORMATS)
def test_rounding_takes_one_of_the_neighbours(number: Minifloat) -> None:
    values = _values(number)
    lower, upper = neighbours(values, 1.0, number)
    rounded = round_to_minifloat(values, 1.0, number)
    assert ((rounded == lower) | (rounded == upper)).all()
    inside = values.abs() <= number.largest
    assert ((lower <= values) & (values <= upper))[inside].all()


def test_scales_put_the_largest_of_a_channel_on_the_largest_value() -> None:
    number = Minifloat(3, 2)
    weight = torch.tensor([[1.0, -56.0], [0.875, 0.125], [0.0, 0.0]])
    scales = minifloat_scales(weight, 0, number)
    assert scales[:2].tolist() == [2.0, 2**-5]
    rounded = round_to_minifloat(weight, scales[:, None], number)
    assert rounded[0].tolist() == [1.0, -56.0]
    assert rounded[2].tolist() == [0.0, 0.0]
    assert minifloat_scales(weight, None, number).item() == 2.0


def test_gradient_passes_inside_the_range_only() -> None:
    values = torch.tensor([0.3, -5.9, 6.1, -7.0], requires_grad=True)
    round_to_minifloat(values, 1.0, Minifloat(2, 1)).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1, 1, 0, 0]


def test_float32_and_float64_give_the_same_points() -> None:
    for number in SPLITS:
        values = _values(number).float()
        assert torch.equal(
            round_to_minifloat(values, 1.0, number).double(), round_to_minifloat(values.double(), 1.0, number)
        )


def test_least_error_scale_is_the_best_of_all_tried() -> None:
    number = Minifloat(2, 1)
    weight = torch.randn(3, 200, generator=torch.Generator().manual_seed(5))
    weight[1, 0] = 12.0  # an outlier: cutting it off pays
    scales = least_error_scales(weight, 0, number)
    whole = minifloat_scales(weight, 0, number)
    for row, scale, largest in zip(weight, scales, whole, strict=True):
        errors = {
            s: float((round_to_minifloat(row, float(s), number) - row).double().square().sum())
            for s in (largest * shrink for shrink in SHRINKS)
        }
        assert float(scale) == min(errors, key=errors.__getitem__).item()
    assert scales[1] < whole[1]
    assert torch.equal(least_error_scales(weight.t(), 1, number), scales)


def test_counts_weigh_values() -> None:
    number = Minifloat(1, 1)  # 0 1 2 3
    values = torch.tensor([[3.0, 1.4, -0.6]])
    often = torch.tensor([1.0, 1000.0, 1000.0])
    assert least_error_scales(values, 0, number) == 1.0
    found = least_error_scales(values, 0, number, often)
    # 1.4 and 0.6 count a thousand times: near 0.7 they are 2 and 1 steps
    assert found.item() == pytest.approx(0.68, abs=0.02)
