import pytest
import scipy.linalg
import torch

from edgekit.errors import ShapeError
from edgekit.numerics.hadamard import hadamard, mean_keeping_rotation, random_rotation


@pytest.mark.parametrize("order", [1, 2, 8, 12, 20, 24, 28, 36, 40, 44, 56, 60, 64, 192])
def test_rows_are_orthonormal_and_even(order):
    matrix = hadamard(order)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(order, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(matrix.abs(), torch.full_like(matrix, order**-0.5), rtol=1e-12, atol=0)
    assert bool((matrix[:, 0] > 0).all())


def test_powers_of_two_are_those_of_sylvester():
    torch.testing.assert_close(hadamard(16) * 4, torch.from_numpy(scipy.linalg.hadamard(16)).double())


@pytest.mark.parametrize("order", [0, -4, 3, 6, 100])
def test_an_order_without_a_matrix_is_refused(order):
    with pytest.raises(ShapeError) as error:
        hadamard(order)
    assert str(order) in error.value.what


@pytest.mark.parametrize("order", [8, 12])
def test_a_mean_keeping_rotation_commutes_with_a_layer_norm_and_a_random_one_with_an_rms_norm(order):
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(5, order, generator=draw, dtype=torch.float64) + 2
    keeping, any_ = mean_keeping_rotation(order, draw), random_rotation(order, draw)
    for rotation in (keeping, any_):
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(order, dtype=torch.float64), rtol=0, atol=1e-12)
    layer, rms = torch.nn.functional.layer_norm, torch.nn.functional.rms_norm
    torch.testing.assert_close(layer(x @ keeping.T, (order,)), layer(x, (order,)) @ keeping.T, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(rms(x @ any_.T, (order,)), rms(x, (order,)) @ any_.T, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(layer(x @ any_.T, (order,)), layer(x, (order,)) @ any_.T)


def test_signs_are_drawn():
    first, second = (random_rotation(8, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(first, random_rotation(8, torch.Generator().manual_seed(0)))
