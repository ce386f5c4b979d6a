import pytest
import torch
from torch import nn

from edgekit.errors import ShapeError
from edgekit.numerics.fold import NormStats, fold_batch_norm


def _trained_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d, seed: int = 0) -> nn.Module:
    """Every statistic away from its default, as after training."""
    generator = torch.Generator().manual_seed(seed)
    channels = norm.num_features
    norm.running_mean = torch.randn(channels, generator=generator)
    norm.running_var = torch.rand(channels, generator=generator) * 1.5 + 0.5
    if norm.affine:
        norm.weight = nn.Parameter(torch.randn(channels, generator=generator))
        norm.bias = nn.Parameter(torch.randn(channels, generator=generator))
    return norm.eval()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (2, 2), (8, 1)])
def test_convolution_then_norm_equals_the_folded_convolution(bias, groups, stride):
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 16, 3, stride, padding=1, groups=groups, bias=bias).double()
    norm = _trained_norm(nn.BatchNorm2d(16, eps=1e-2)).double()  # a wrong eps must show
    weight, folded_bias = fold_batch_norm(conv.weight, conv.bias, NormStats.of(norm))
    x = torch.randn(2, 8, 7, 5, dtype=torch.float64)
    folded = nn.functional.conv2d(x, weight, folded_bias, stride, 1, groups=groups)
    torch.testing.assert_close(folded, norm(conv(x)), rtol=0, atol=1e-12)


def test_linear_then_norm_without_affine_parameters():
    torch.manual_seed(0)
    linear, norm = nn.Linear(5, 4), _trained_norm(nn.BatchNorm1d(4, affine=False))
    weight, bias = fold_batch_norm(linear.weight, linear.bias, NormStats.of(norm))
    x = torch.randn(3, 5)
    torch.testing.assert_close(nn.functional.linear(x, weight, bias), norm(linear(x)), rtol=1e-5, atol=1e-6)


def test_by_hand():
    # one channel: weight 3, bias 1, mean 2, var 3.99 + eps 0.01 = 4, gamma 6, beta 0.5: factor 6 / 2 = 3
    norm = NormStats(*(torch.tensor([v]) for v in (2.0, 3.99, 6.0, 0.5)), eps=0.01)
    weight, bias = fold_batch_norm(torch.tensor([[3.0]]), torch.tensor([1.0]), norm)
    assert weight.item() == pytest.approx(9.0, abs=1e-6)
    assert bias.item() == pytest.approx((1 - 2) * 3 + 0.5, abs=1e-6)


def test_the_weight_keeps_its_dtype_but_is_computed_in_float64():
    norm = NormStats(*(torch.tensor([v]) for v in (0.0, 1.0, 1 / 3, 0.0)), eps=0.0)
    weight, bias = fold_batch_norm(torch.tensor([[3.0]], dtype=torch.float16), None, norm)
    assert (weight.dtype, bias.dtype) == (torch.float16, torch.float16)
    assert weight.item() == 1.0


def test_vectors_of_another_width_are_refused():
    with pytest.raises(ShapeError) as error:
        fold_batch_norm(torch.zeros(4, 3, 1, 1), None, NormStats.of(nn.BatchNorm2d(3)))
    assert "(3,)" in error.value.what
    assert "(4,)" in error.value.what


def test_a_norm_of_the_batch_itself_is_refused():
    with pytest.raises(ShapeError) as error:
        NormStats.of(nn.BatchNorm2d(3, track_running_stats=False))
    assert "running statistics" in error.value.what
