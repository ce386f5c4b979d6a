import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.errors import ShapeError
from edgekit.numerics.fold import NormStats
from edgekit.numerics.merge import Branch, identity_kernel, merge_branches, merge_repvgg, pad_kernel


def _norm(channels: int, seed: int) -> NormStats:
    draw = torch.Generator().manual_seed(seed)
    mean, gamma, beta = (torch.randn(channels, generator=draw, dtype=torch.float64) for _ in range(3))
    var = torch.rand(channels, generator=draw, dtype=torch.float64) * 1.5 + 0.5
    return NormStats(mean, var, gamma, beta, eps=1e-3)


def _apply(norm: NormStats, x: Tensor) -> Tensor:
    return F.batch_norm(x, norm.mean, norm.var, norm.gamma, norm.beta, eps=norm.eps)


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_identity_kernel_gives_its_input(groups):
    x = torch.randn(2, 8, 5, 6, dtype=torch.float64)
    assert torch.equal(F.conv2d(x, identity_kernel(8, groups, 3), padding=1, groups=groups), x)


def test_padded_kernel_is_the_same_convolution():
    x, kernel = torch.randn(1, 3, 6, 7, dtype=torch.float64), torch.randn(4, 3, 1, 1, dtype=torch.float64)
    padded = pad_kernel(kernel, 5)
    assert padded.shape == (4, 3, 5, 5)
    torch.testing.assert_close(F.conv2d(x, padded, padding=2), F.conv2d(x, kernel), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (4, 2)])
def test_repvgg_block_equals_one_convolution(groups, stride):
    draw = torch.Generator().manual_seed(groups)
    kernel3 = torch.randn(8, 8 // groups, 3, 3, generator=draw, dtype=torch.float64)
    kernel1 = torch.randn(8, 8 // groups, 1, 1, generator=draw, dtype=torch.float64)
    norms = [_norm(8, seed) for seed in range(3)]
    identity = norms[2] if stride == 1 else None
    x = torch.randn(2, 8, 7, 9, generator=draw, dtype=torch.float64)
    expected = _apply(norms[0], F.conv2d(x, kernel3, None, stride, 1, groups=groups))
    expected = expected + _apply(norms[1], F.conv2d(x, kernel1, None, stride, 0, groups=groups))
    if identity is not None:
        expected = expected + _apply(identity, x)
    kernel, bias = merge_repvgg(Branch(kernel3, None, norms[0]), Branch(kernel1, None, norms[1]), identity, groups)
    torch.testing.assert_close(F.conv2d(x, kernel, bias, stride, 1, groups=groups), expected, rtol=0, atol=1e-12)


def test_branches_with_biases_and_without_a_norm_are_summed():
    first = Branch(torch.full((1, 1, 3, 3), 2.0), torch.tensor([1.0]), None)
    second = Branch(torch.full((1, 1, 1, 1), 5.0), torch.tensor([10.0]), None)
    kernel, bias = merge_branches([first, second])
    assert kernel.tolist() == [[[[2, 2, 2], [2, 7, 2], [2, 2, 2]]]]
    assert bias.tolist() == [11]
    assert kernel.dtype == torch.float32


def test_what_cannot_be_merged_is_refused():
    with pytest.raises(ShapeError):
        pad_kernel(torch.zeros(1, 1, 2, 2), 3)  # no centre
    with pytest.raises(ShapeError):
        pad_kernel(torch.zeros(1, 1, 5, 5), 3)
    with pytest.raises(ShapeError):
        identity_kernel(6, 4, 3)
    with pytest.raises(ShapeError):
        identity_kernel(4, 1, 2)
    with pytest.raises(ShapeError) as error:
        merge_branches([Branch(torch.zeros(4, 2, 3, 3), None, None), Branch(torch.zeros(4, 4, 1, 1), None, None)])
    assert "(4, 2, 3, 3)" in error.value.what
