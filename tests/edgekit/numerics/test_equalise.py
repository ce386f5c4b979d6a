import torch

from edgekit.numerics.equalise import class_maxima, equalising_factors


def test_factors_make_both_ranges_the_geometric_mean():
    made, read = torch.tensor([2.0, 8.0, 1.0]).double(), torch.tensor([8.0, 2.0, 1.0]).double()
    factors = equalising_factors(made, read)
    assert factors.tolist() == [2.0, 0.5, 1.0]
    torch.testing.assert_close(made * factors, read / factors)


def test_alpha_weighs_the_two_sides_as_smoothquant_does():
    # s = max|X|^a / max|W|^(1-a), worked out for X = 16, W = 0.25, a = 0.75: 8 / 0.25^0.25
    factor = equalising_factors(torch.tensor([16.0]), torch.tensor([0.25]), 0.75)
    torch.testing.assert_close(1 / factor, torch.tensor([8.0 / 0.25**0.25]))


def test_a_channel_without_a_range_keeps_its_scale():
    made, read = torch.tensor([0.0, 1.0, 1e-10]), torch.tensor([1.0, 0.0, 1.0])
    assert equalising_factors(made, read).tolist() == [1.0, 1.0, 1.0]


def test_maxima_are_of_each_class_and_of_both_signs():
    values = torch.tensor([[1.0, -5.0], [2.0, 3.0], [9.0, 4.0]])
    classes = torch.tensor([[0, 0], [2, 2], [-1, 0]])
    assert class_maxima(values, classes, 4).tolist() == [5.0, 0.0, 3.0, 0.0]
