"""GPTQ against rounding to nearest, against itself unblocked, and against optimal brain quantisation in fixed order."""

import pytest
import torch
from torch import Tensor

from edgekit.numerics.gptq import DAMPING, gptq

INPUTS, OUTPUTS, PLACES = 24, 5, 200


def _nearest(scaled: Tensor) -> Tensor:
    return scaled.round().clamp(-7, 7)


def _layer(groups: int = 1, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (G, O, K), scales (G, O, 1) and inputs (G, K, P) that depend on each other, as those of images do."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(groups, OUTPUTS, INPUTS, generator=draw, dtype=torch.float64)
    mixed = torch.randn(groups, INPUTS, INPUTS, generator=draw, dtype=torch.float64)
    inputs = mixed @ torch.randn(groups, INPUTS, PLACES, generator=draw, dtype=torch.float64)
    return weight, weight.abs().amax(2, keepdim=True) / 7, inputs


def _obq(weight: Tensor, scale: Tensor, hessian: Tensor, order: list[int]) -> Tensor:
    """Optimal brain quantisation, its inputs in a given order: the inverse Hessian is brought up to date each time.

    Frantar and Alistarh, Optimal Brain Compression, arXiv:2208.11580, eq. 3 and 4: what GPTQ computes by one Cholesky
    factor.
    """
    left, found = weight.clone(), torch.zeros_like(weight)
    inverse = torch.linalg.inv(hessian + DAMPING * hessian.diagonal().mean() * torch.eye(len(hessian)))
    for i in order:
        found[:, i] = _nearest(left[:, i] / scale[:, 0])
        error = (left[:, i] - found[:, i] * scale[:, 0]) / inverse[i, i]
        left -= error[:, None] * inverse[i]
        inverse = inverse - inverse[:, i : i + 1] @ inverse[i : i + 1] / inverse[i, i]
    return found


@pytest.mark.parametrize("by_size", [False, True])
def test_it_is_optimal_brain_quantisation_in_a_fixed_order(by_size: bool) -> None:
    weight, scale, inputs = _layer()
    hessian = inputs @ inputs.transpose(1, 2)
    order = hessian[0].diagonal().argsort(descending=True).tolist() if by_size else list(range(INPUTS))
    assert order != list(range(INPUTS)) or not by_size
    expected = _obq(weight[0], scale[0], hessian[0], order)
    assert gptq(weight, scale, hessian, _nearest, by_size=by_size)[0].equal(expected)


@pytest.mark.parametrize("by_size", [False, True])
def test_inputs_that_do_not_depend_on_each_other_are_rounded_to_nearest(by_size: bool) -> None:
    weight, scale, _ = _layer(groups=2)
    hessian = torch.diag_embed(torch.rand(2, INPUTS, generator=torch.Generator().manual_seed(1)).double() + 0.1)
    assert gptq(weight, scale, hessian, _nearest, by_size=by_size).equal(_nearest(weight / scale))


@pytest.mark.parametrize("block", [1, 7, 23])
def test_blocks_change_nothing(block: int) -> None:
    weight, scale, inputs = _layer()
    hessian = inputs @ inputs.transpose(1, 2)
    # a grid so fine that the errors handed on, not only the codes, are compared
    fine = scale * 1e-5

    def round_finely(scaled: Tensor) -> Tensor:
        return scaled.round()

    whole, blocked = (gptq(weight, fine, hessian, round_finely, block=size) * fine for size in (INPUTS, block))
    torch.testing.assert_close(blocked, whole, rtol=0, atol=1e-6)
    assert gptq(weight, scale, hessian, _nearest, block=block).equal(gptq(weight, scale, hessian, _nearest))


def test_outputs_change_less_than_by_rounding_to_nearest() -> None:
    for seed in range(5):
        weight, scale, inputs = _layer(seed=seed)
        found = gptq(weight, scale, inputs @ inputs.transpose(1, 2), _nearest)
        errors = [((points * scale - weight) @ inputs).square().mean() for points in (found, _nearest(weight / scale))]
        assert errors[0] < 0.6 * errors[1]


def test_each_group_of_a_convolution_is_rounded_by_its_own_inputs() -> None:
    weight, scale, inputs = _layer(groups=3)
    hessian = inputs @ inputs.transpose(1, 2)
    together = gptq(weight, scale, hessian, _nearest)
    for i in range(3):
        alone = gptq(weight[i : i + 1], scale[i : i + 1], hessian[i : i + 1], _nearest)
        assert together[i].equal(alone[0])
    assert not together[0].equal(gptq(weight[:1], scale[:1], hessian[1:2], _nearest)[0])


def test_scales_of_groups_stay_with_their_inputs_whatever_the_order() -> None:
    weight, _, inputs = _layer()
    scale = (weight.reshape(1, OUTPUTS, 3, 8).abs().amax(3) / 7).repeat_interleave(8, 2)
    found = gptq(weight, scale, inputs @ inputs.transpose(1, 2), _nearest) * scale
    errors = [((values - weight) @ inputs).square().mean() for values in (found, _nearest(weight / scale) * scale)]
    assert errors[0] < 0.8 * errors[1]
    assert (found / scale - (found / scale).round()).abs().max() < 1e-9


def test_an_input_that_is_always_zero_is_rounded_to_nearest_and_disturbs_no_other() -> None:
    weight, scale, inputs = _layer()
    inputs[:, 3] = 0
    hessian = inputs @ inputs.transpose(1, 2)
    found = gptq(weight, scale, hessian, _nearest)
    assert found[..., 3].equal(_nearest(weight / scale)[..., 3])
    rest = [i for i in range(INPUTS) if i != 3]
    error = ((found * scale - weight) @ inputs).square().mean()
    assert error < 0.6 * ((_nearest(weight / scale) * scale - weight) @ inputs).square().mean()
    assert len(rest) == found[..., rest].shape[2]


def test_inputs_that_are_all_zero_are_no_error() -> None:
    weight, scale, _ = _layer()
    assert gptq(weight, scale, torch.zeros(1, INPUTS, INPUTS), _nearest).equal(_nearest(weight / scale))


def test_a_weight_of_zero_stays_zero_and_its_error_is_made_up_for() -> None:
    weight, scale, inputs = _layer()
    weight[0, :, ::3] = 0
    hessian = inputs @ inputs.transpose(1, 2)
    found = gptq(weight, scale, hessian, _nearest)
    assert (found[0, :, ::3] == 0).all()
    nearest = _nearest(weight / scale)
    errors = [(((points * scale) - weight) @ inputs).square().sum() for points in (found, nearest)]
    assert errors[0] < 0.8 * errors[1]
