"""Learned rounding's pieces against the paper's formulas worked out here."""

import math

import pytest
import torch

from edgekit.numerics.number import Integer, Minifloat
from edgekit.numerics.rounding import (
    beta_at,
    nearest_point,
    neighbours,
    rectified_sigmoid,
    share_of_upper,
    undecided,
    variable_of,
)

INT4, E2M1 = Integer(4), Minifloat(2, 1)


def test_the_sigmoid_is_stretched_and_clipped() -> None:
    variable = torch.tensor([-10.0, -1.0, 0.0, 1.0, 10.0])
    plain = [1 / (1 + math.exp(-v)) * 1.2 - 0.1 for v in variable.tolist()]
    assert plain[0] < 0 < 1 < plain[-1]  # or clipping would not be seen
    assert rectified_sigmoid(variable).tolist() == pytest.approx([0, plain[1], 0.5, plain[3], 1], abs=1e-6)


def test_the_variable_of_a_share_has_that_share_at_both_ends_too() -> None:
    share = torch.tensor([0.0, 0.01, 0.25, 0.5, 0.99, 1.0])
    assert variable_of(share)[0].item() == pytest.approx(-math.log(11.0), abs=1e-4)
    torch.testing.assert_close(rectified_sigmoid(variable_of(share)), share, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("number", "values", "lower", "upper"),
    [
        (INT4, [0.3, -0.3, 6.2, -6.9, 7.4, -9.0, 3.0, 0.0], [0, -1, 6, -7, 7, -7, 3, 0], [1, 0, 7, -6, 7, -7, 3, 0]),
        # e2m1 has 0, 0.5, 1, 1.5, 2, 3, 4, 6
        (
            E2M1,
            [0.3, -0.3, 2.2, -2.2, 5.0, 8.0, 1.5, 0.0],
            [0, -0.5, 2, -3, 4, 6, 1.5, 0],
            [0.5, 0, 3, -2, 6, 6, 1.5, 0],
        ),
    ],
)
def test_neighbours_are_one_where_rounding_has_no_choice(
    number: Integer | Minifloat, values: list[float], lower: list[float], upper: list[float]
) -> None:
    found = neighbours(torch.tensor(values), number)
    assert found[0].tolist() == lower
    assert found[1].tolist() == upper
    nearest = nearest_point(torch.tensor(values), number)
    assert ((nearest == found[0]) | (nearest == found[1])).all()


@pytest.mark.parametrize("number", [INT4, E2M1])
def test_soft_weights_start_as_the_weights_themselves(number: Integer | Minifloat) -> None:
    scaled = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 3
    lower, upper = neighbours(scaled, number)
    share = rectified_sigmoid(variable_of(share_of_upper(scaled, lower, upper)))
    largest = 7.0 if number is INT4 else 6.0
    assert (scaled.abs() > largest).any()
    torch.testing.assert_close(lower + share * (upper - lower), scaled.clamp(-largest, largest), rtol=0, atol=1e-5)


def test_the_regulariser_counts_what_is_undecided() -> None:
    share = torch.tensor([0.0, 1.0, 0.5, 0.25])
    assert undecided(share, 2.0).item() == pytest.approx(0 + 0 + 1 + 0.75)
    assert undecided(share, 20.0).item() == pytest.approx(2.0, abs=1e-5)


def test_the_exponent_falls_in_a_line_behind_the_warm_up() -> None:
    assert [beta_at(step, 100) for step in (0, 19)] == [None, None]
    assert beta_at(20, 100) == 20.0
    assert beta_at(60, 100) == pytest.approx(11.0)
    assert beta_at(99, 100) == pytest.approx(2.0, abs=0.3)
