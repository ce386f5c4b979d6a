import pytest
import torch

from edgekit.numerics.smooth import RATIOS, awq_factors, class_means, rounded_in_groups


def test_ratios_are_twenty_from_zero():
    assert len(RATIOS) == 20
    assert RATIOS[0] == 0
    assert RATIOS[-1] == pytest.approx(0.95)


def test_factors_are_powers_of_the_magnitudes_around_one():
    magnitude = torch.tensor([0.01, 1.0, 4.0])
    assert awq_factors(magnitude, 0.0).tolist() == [1.0, 1.0, 1.0]
    # 0.1, 1, 2 over the root of 0.1 * 2
    expected = torch.tensor([0.1, 1.0, 2.0], dtype=torch.float64) / 0.2**0.5
    torch.testing.assert_close(awq_factors(magnitude, 0.5), expected, rtol=1e-6, atol=0)


def test_an_input_that_is_always_zero_gets_a_finite_factor():
    factors = awq_factors(torch.tensor([0.0, 1.0]), 0.95)
    assert bool(factors.isfinite().all())
    assert bool((factors > 0).all())


def test_each_group_is_rounded_to_its_own_grid():
    weight = torch.tensor([[0.7, -0.34, 7.0, 0.4, 0.05]])
    # groups of 2, codes -7..7: scales 0.1, 1 and 0.05 / 7
    assert rounded_in_groups(weight, 2, 7)[0].tolist() == pytest.approx([0.7, -0.3, 7.0, 0.0, 0.05], rel=1e-6)
    # one scale: 1
    assert rounded_in_groups(weight, None, 7)[0].tolist() == pytest.approx([1.0, 0.0, 7.0, 0.0, 0.0])


def test_a_convolution_is_grouped_over_all_that_an_output_reads():
    weight = torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    flat = rounded_in_groups(weight.flatten(1), 6, 7)
    assert torch.equal(rounded_in_groups(weight, 6, 7), flat.reshape(weight.shape))


def test_means_are_of_magnitudes_of_each_class():
    values = torch.tensor([[1.0, -5.0], [2.0, 3.0]])
    classes = torch.tensor([[0, 0], [2, -1]])
    assert class_means(values, classes, 3).tolist() == [3.0, 0.0, 2.0]
