"""Scales of weights: for each output channel, or for each group of its inputs. Symmetric grids throughout.

`quantise.channel_scales` is the min-max form of the first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.numerics.quantise import SMALLEST_SCALE
from edgekit.numerics.ranges import SHRINKS


def mse_channel_scales(weight: Tensor, axis: int, qmax: int) -> Tensor:
    """Scales that lose least, in mean squared error, one per index of `axis`: float32 (C,).

    Of each channel's largest magnitude 80 shrinks by 1 % are tried; the whole of it wins a tie.

    Args:
        qmax: largest code; the smallest is -qmax.

    Source: the MSE observer of BRECQ, Li et al., arXiv:2102.05426.
    """
    return _least_error(weight.detach().movedim(axis, 0).flatten(1), qmax)


def group_scales(weight: Tensor, group: int, qmax: int) -> Tensor:
    """Min-max scales for groups of `group` inputs, flattened behind axis 0: float32 (C, G). The last may be shorter."""
    return _min_max(_groups(weight, group), qmax)


def mse_group_scales(weight: Tensor, group: int, qmax: int) -> Tensor:
    """As `group_scales`, with the scales that lose least among the candidates of `mse_channel_scales`."""
    groups = _groups(weight, group)
    return _least_error(groups.flatten(0, 1), qmax).reshape(groups.shape[:2])


def _groups(weight: Tensor, group: int) -> Tensor:
    """(C, G, group); zeros fill the last group, which changes neither its largest magnitude nor its error."""
    flat = weight.detach().flatten(1)
    return F.pad(flat, (0, -flat.shape[1] % group)).reshape(len(flat), -1, group)


def _min_max(rows: Tensor, qmax: int) -> Tensor:
    return (rows.abs().amax(-1).double() / qmax).clamp_min(SMALLEST_SCALE).float()


def _least_error(rows: Tensor, qmax: int) -> Tensor:
    """(R,) float32 for rows (R, K)."""
    rows = rows.float()
    whole = rows.abs().amax(1).double() / qmax
    best = whole.clamp_min(SMALLEST_SCALE).float()
    least = torch.full_like(best, torch.inf)
    for shrink in SHRINKS:
        scale = (whole * shrink).clamp_min(SMALLEST_SCALE).float()
        codes = (rows / scale[:, None]).round().clamp(-qmax, qmax)
        error = (codes * scale[:, None] - rows).square().sum(1)
        better = error < least
        best, least = torch.where(better, scale, best), torch.where(better, error, least)
    return best
