"""The shift that a weight's rounding makes, against the layers themselves."""

import pytest
import torch
from torch.nn import functional as F

from edgekit.numerics.bias import rounding_shift


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_shift_is_what_the_convolution_moves_on_average(groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 6, 5, 5, generator=generator) + torch.arange(6).reshape(1, 6, 1, 1)
    weight = torch.randn(12, 6 // groups, 1, 1, generator=generator)
    error = torch.randn(weight.shape, generator=generator) * 0.01
    moved = F.conv2d(x, weight + error, groups=groups) - F.conv2d(x, weight, groups=groups)
    torch.testing.assert_close(rounding_shift(error, x.mean((0, 2, 3))), moved.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_every_tap_of_a_kernel_counts() -> None:
    error = torch.tensor([[[[0.1, -0.2], [0.3, 0.4]]]])
    assert rounding_shift(error, torch.tensor([5.0])).tolist() == pytest.approx([3.0])


def test_shift_of_a_linear_layer() -> None:
    error = torch.tensor([[0.1, 0.2], [-0.1, 0.0]])
    assert rounding_shift(error, torch.tensor([1.0, 10.0])).tolist() == pytest.approx([2.1, -0.1])
