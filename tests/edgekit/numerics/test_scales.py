"""Scales of weights against searches row by row."""

import pytest
import torch

from edgekit.numerics.quantise import channel_scales
from edgekit.numerics.ranges import SHRINKS
from edgekit.numerics.scales import group_scales, mse_channel_scales, mse_group_scales


def _weight(*shape: int) -> torch.Tensor:
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    weight[0, 0] = 9.0  # an outlier that squared error cuts off at 4 bits
    return weight


def _error(row: torch.Tensor, scale: float, qmax: int) -> float:
    return float((((row / scale).round().clamp(-qmax, qmax) * scale - row) ** 2).sum())


@pytest.mark.parametrize("qmax", [127, 7])
def test_each_channel_gets_the_best_of_its_candidates(qmax: int) -> None:
    weight = _weight(5, 3, 2, 2)
    found = mse_channel_scales(weight, 0, qmax)
    for row, scale in zip(weight.flatten(1), found, strict=True):
        candidates = [float(row.abs().max()) / qmax * shrink for shrink in SHRINKS]
        assert _error(row, float(scale), qmax) == pytest.approx(min(_error(row, c, qmax) for c in candidates), rel=1e-4)
    if qmax == 7:
        assert found[0] < channel_scales(weight, 0, qmax)[0]


def test_channels_lie_along_the_axis() -> None:
    weight = _weight(3, 4)
    torch.testing.assert_close(mse_channel_scales(weight.t(), 1, 7), mse_channel_scales(weight, 0, 7), rtol=0, atol=0)


def test_weights_on_the_grid_keep_their_scale() -> None:
    codes = torch.tensor([[7.0, -3.0, 1.0], [0.0, 5.0, -7.0]])
    assert mse_channel_scales(codes * 0.5, 0, 7).tolist() == [0.5, 0.5]


def test_a_channel_of_zeros_has_a_scale() -> None:
    assert (mse_channel_scales(torch.zeros(2, 3), 0, 7) > 0).all()


def test_groups_are_runs_of_inputs_and_the_last_may_be_short() -> None:
    weight = _weight(2, 5, 2)  # ten inputs behind axis 0: groups of 4, 4 and 2
    found = group_scales(weight, 4, 7)
    assert found.shape == (2, 3)
    flat = weight.flatten(1)
    for channel in range(2):
        for group, run in enumerate((slice(0, 4), slice(4, 8), slice(8, 10))):
            assert float(found[channel, group]) == pytest.approx(float(flat[channel, run].abs().max()) / 7)


def test_each_group_gets_the_scale_that_its_own_run_asks_for() -> None:
    weight = _weight(2, 40)
    weight[0, 30] = 11.0
    found = mse_group_scales(weight, 32, 7)
    assert found.shape == (2, 2)
    torch.testing.assert_close(found[:, 0], mse_channel_scales(weight[:, :32], 0, 7))
    torch.testing.assert_close(found[:, 1], mse_channel_scales(weight[:, 32:], 0, 7))
