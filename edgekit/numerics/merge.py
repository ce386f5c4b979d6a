"""Merging parallel linear branches into one kernel. Folding a norm into one branch lives in `fold.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekit.errors import ShapeError
from edgekit.numerics.fold import NormStats, fold_batch_norm


@dataclass(frozen=True)
class Branch:
    """A convolution, then its batch norm if it has one: kernel (C_out, C_in / groups, k, k), bias (C_out,)."""

    kernel: Tensor
    bias: Tensor | None
    norm: NormStats | None


def pad_kernel(kernel: Tensor, size: int) -> Tensor:
    """The same convolution with a `size` x `size` kernel: zeros all around.

    Exact where the padding of the convolution grows by the same (size - k) / 2.

    Raises:
        ShapeError: `size` is smaller than the kernel, or the zeros cannot be laid evenly on both sides.
    """
    height, width = kernel.shape[-2:]
    if size < max(height, width) or (size - height) % 2 or (size - width) % 2:
        raise ShapeError(
            what=f"a {height}x{width} kernel has no centred {size}x{size} form",
            where=f"kernel {tuple(kernel.shape)}",
            fix="merge branches whose kernel sizes are all odd, into the largest of them",
        )
    rows, columns = (size - height) // 2, (size - width) // 2
    return torch.nn.functional.pad(kernel, (columns, columns, rows, rows))


def identity_kernel(channels: int, groups: int, size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """The `size` x `size` kernel, (channels, channels / groups, size, size), whose grouped convolution gives its input.

    Raises:
        ShapeError: `channels` is no multiple of `groups`, or `size` is even and so has no centre.

    Source: Ding et al., RepVGG, arXiv:2101.03697, section 3.3.
    With groups, the 1 of output o is at input o mod (C / groups).
    """
    if channels % groups or size % 2 == 0:
        raise ShapeError(
            what=f"no identity kernel of size {size} for {channels} channels in {groups} groups",
            where="identity branch",
            fix="use an odd kernel size, and a number of groups that divides the channels",
        )
    width = channels // groups
    kernel = torch.zeros(channels, width, size, size, dtype=dtype)
    outputs = torch.arange(channels)
    kernel[outputs, outputs % width, size // 2, size // 2] = 1
    return kernel


def merge_branches(branches: Sequence[Branch]) -> tuple[Tensor, Tensor]:
    """One kernel and bias whose convolution is the sum of the branches.

    All branches must have the same stride, dilation and groups, zero padding, and centres over the same input pixel;
    that is the caller's to know, kernels do not tell. Computed in float64, returned in the dtype of the first kernel.

    Returns:
        Kernel (C_out, C_in / groups, k, k) with the largest k of the branches, and bias (C_out,).

    Raises:
        ShapeError: channels differ between branches, or a kernel cannot be padded to the largest.
    """
    size = max(max(branch.kernel.shape[-2:]) for branch in branches)
    first = branches[0].kernel
    kernel_sum = torch.zeros(*first.shape[:2], size, size, dtype=torch.float64, device=first.device)
    bias_sum = torch.zeros(first.shape[0], dtype=torch.float64, device=first.device)
    for branch in branches:
        if branch.kernel.shape[:2] != first.shape[:2]:
            raise ShapeError(
                what=f"branches have kernels {tuple(first.shape)} and {tuple(branch.kernel.shape)}",
                where="parallel branches",
                fix="merge only branches with the same input channels, output channels and groups",
            )
        kernel = branch.kernel.detach().double()
        bias = torch.zeros_like(bias_sum) if branch.bias is None else branch.bias.detach().double()
        if branch.norm is not None:
            kernel, bias = fold_batch_norm(kernel, bias, branch.norm)
        kernel_sum += pad_kernel(kernel, size)
        bias_sum += bias
    return kernel_sum.to(first.dtype), bias_sum.to(first.dtype)


def merge_repvgg(conv3: Branch, conv1: Branch, identity: NormStats | None, groups: int) -> tuple[Tensor, Tensor]:
    """The one 3x3 convolution that a RepVGG block is in eval mode, before its activation.

    Args:
        conv3: kernel (C_out, C_in / groups, 3, 3), padding 1.
        conv1: kernel (C_out, C_in / groups, 1, 1), padding 0, same stride.
        identity: the norm of the identity branch; None where stride or widths leave no such branch.

    Returns:
        Kernel shaped like that of `conv3`, and bias (C_out,).

    Raises:
        ShapeError: the branches do not fit together.

    Source: Ding et al., RepVGG, arXiv:2101.03697, section 3.3 and figure 4.
    """
    branches = [conv3, conv1]
    if identity is not None:
        same = identity_kernel(conv3.kernel.shape[0], groups, 1).to(conv3.kernel.device)
        branches.append(Branch(same, None, identity))
    return merge_branches(branches)
