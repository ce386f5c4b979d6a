"""The learned step's gradients against the paper's formulas on numbers worked out by hand."""

import math

import pytest
import torch

from edgekit.numerics.learned_step import round_with_learned_step


def test_values_and_gradients_of_a_hand_example() -> None:
    values = torch.tensor([[0.6, -0.2, 5.0, -3.0]], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    rounded = round_with_learned_step(values, scale, 1, -2, 3)  # codes less the zero point lie in [-3, 2]
    assert rounded.tolist() == [[0.5, 0.0, 1.0, -1.5]]
    rounded.backward(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))
    assert values.grad is not None
    assert scale.grad is not None
    assert values.grad.tolist() == [[1.0, 10.0, 0.0, 0.0]]
    inside = 1.0 * (1 - 1.2) + 10.0 * (0 + 0.4)
    assert scale.grad.item() == pytest.approx((inside + 100.0 * 2 + 1000.0 * -3) / math.sqrt(4 * 3), rel=1e-5)


def test_the_gradient_of_the_scale_is_measured_against_values_of_one_sample() -> None:
    gradients = []
    for batch in (1, 2):
        scale = torch.tensor(1.0, requires_grad=True)
        values = torch.full((batch, 8), 0.75)
        (round_with_learned_step(values, scale, 0, -128, 127).sum() / batch).backward()
        assert scale.grad is not None
        gradients.append(scale.grad.item())
    assert gradients[0] == pytest.approx(8 * 0.25 / math.sqrt(8 * 128))
    assert gradients[1] == pytest.approx(gradients[0])


def test_a_fixed_scale_passes_gradients_to_the_values() -> None:
    values = torch.tensor([0.3, 9.0], requires_grad=True)
    round_with_learned_step(values, torch.tensor(0.1), -8, -8, 7).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 0.0]
