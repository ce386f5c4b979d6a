"""Integer grids against hand-written arrays and the properties that define them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgekit.numerics.quantise import affine_grid, channel_scales, decode, encode, symmetric_scale


def test_grid_of_a_hand_computed_range() -> None:
    # [-1, 3] over 0..255: scale 4/255, zero at 255/4 = 63.75 -> 64
    scale, zero_point = affine_grid(-1.0, 3.0, 0, 255)
    assert scale == pytest.approx(4 / 255, rel=1e-6)
    assert zero_point == 64


def test_signed_grid_is_the_unsigned_one_shifted_by_128() -> None:
    assert affine_grid(-1.0, 3.0, -128, 127) == (affine_grid(-1.0, 3.0, 0, 255)[0], 64 - 128)


def test_a_range_without_zero_is_extended_to_it() -> None:
    assert affine_grid(2.0, 4.0, 0, 255) == affine_grid(0.0, 4.0, 0, 255)
    assert affine_grid(-4.0, -2.0, 0, 255)[1] == 255


def test_codes_of_a_hand_written_array() -> None:
    values = torch.tensor([-9.0, -1.0, -0.25, 0.0, 0.25, 0.75, 3.0, 9.0])
    # scale 0.5: halves round to even: -0.5 -> 0, 0.5 -> 0, 1.5 -> 2; -18 and 18 clip
    assert encode(values, 0.5, 10, 0, 15).tolist() == [0, 8, 10, 10, 10, 12, 15, 15]


def test_channels_have_their_own_scale() -> None:
    weight = torch.tensor([[1.27, -0.5], [0.0, 0.0], [-25.4, 2.0]])
    scale = channel_scales(weight, 0, 127)
    assert scale[[0, 2]].tolist() == pytest.approx([0.01, 0.2])
    assert scale[1] > 0  # an all-zero channel still has a grid
    assert encode(weight, scale, 0, -127, 127, 0).tolist() == [[127, -50], [0, 0], [-127, 10]]


@given(low=st.floats(-1e4, 0), high=st.floats(0, 1e4), data=st.data())
def test_values_inside_the_range_come_back_within_half_a_step(low: float, high: float, data: st.DataObject) -> None:
    scale, zero_point = affine_grid(low, high, -128, 127)
    value = data.draw(st.floats(low, high))
    code = encode(torch.tensor([value], dtype=torch.float64), scale, zero_point, -128, 127)
    back = float(decode(code, scale, zero_point))
    # the zero point is rounded, so the ends of the range may be cut by half a step
    assert abs(back - value) <= scale * 1.001


@given(low=st.floats(-1e4, 0), high=st.floats(0, 1e4))
def test_zero_has_a_code_of_its_own(low: float, high: float) -> None:
    scale, zero_point = affine_grid(low, high, 0, 255)
    assert decode(encode(torch.zeros(1), scale, zero_point, 0, 255), scale, zero_point).item() == 0.0
    assert scale == float(np.float32(scale))  # what a runtime stores


def test_symmetric_scale_gives_the_largest_value_the_largest_code() -> None:
    assert symmetric_scale(2.54, 127) == pytest.approx(0.02)
    assert symmetric_scale(0.0, 127) > 0
