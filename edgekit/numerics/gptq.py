"""GPTQ: rounding a layer's weights one input at a time, each error made up for by the inputs still to come.

Source: Frantar et al., GPTQ, arXiv:2210.17323, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

DAMPING = 0.01  # of the mean diagonal, added to it: the paper's
BLOCK = 128


def gptq(
    weight: Tensor,
    scale: Tensor,
    hessian: Tensor,
    nearest: Callable[[Tensor], Tensor],
    block: int = BLOCK,
    by_size: bool = True,
) -> Tensor:
    """Weights on their grid, in units of `scale`, chosen so that the layer's outputs change little.

    Scales are given, those of groups too, so the order of the inputs is free and nothing has to be stored of it (the
    paper's code calls this static groups). An input that was never anything but 0 says nothing of its weights. They
    are rounded to nearest; the paper's code makes them 0, which other samples may notice. A weight that is 0 stays 0,
    whatever errors come to it, and hands them on: sparse weights keep their pattern.

    Args:
        weight: (G, O, K): O outputs of K inputs in each of G groups of a convolution; G is 1 for a linear layer.
        scale: of anything that broadcasts with `weight`.
        hessian: (G, K, K): sum of x x^T over what the inputs were, of any positive factor.
        nearest: rounds weight / scale to its grid: a function of each element alone.
        block: inputs after which those still to come are brought up to date. It changes speed, not the result.
        by_size: take inputs in falling order of their diagonal (the paper's act-order).

    Returns:
        (G, O, K), float64.
    """
    left = weight.double().clone()
    spread = scale.double().expand_as(left)
    order = torch.arange(left.shape[2]).expand(left.shape[0], -1)
    if by_size:
        order = hessian.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)
    columns = order[:, None].expand_as(left)
    left, spread = left.gather(2, columns), spread.gather(2, columns)
    absent = left == 0
    upper = _inverse_factor(hessian.double(), order)
    found = torch.empty_like(left)
    inputs = left.shape[2]
    for start in range(0, inputs, block):
        stop = min(start + block, inputs)
        errors = left.new_zeros(*left.shape[:2], stop - start)
        for i in range(start, stop):
            found[..., i] = nearest(left[..., i] / spread[..., i]).masked_fill_(absent[..., i], 0)
            error = (left[..., i] - found[..., i] * spread[..., i]) / upper[:, i, i, None]
            left[..., i:stop] -= error[..., None] * upper[:, None, i, i:stop]
            errors[..., i - start] = error
        left[..., stop:] -= errors @ upper[:, start:stop, stop:]
    return torch.empty_like(found).scatter_(2, columns, found)


def _inverse_factor(hessian: Tensor, order: Tensor) -> Tensor:
    """U of which U^T U is the inverse of the damped Hessian in that order, (G, K, K)."""
    rows = order[:, :, None].expand_as(hessian)
    ordered = hessian.gather(1, rows).gather(2, rows.transpose(1, 2))
    diagonal = ordered.diagonal(dim1=1, dim2=2)  # a view
    mean = diagonal.mean(1, keepdim=True)
    mean = torch.where(mean > 0, mean, 1)
    diagonal += torch.where(diagonal > 0, DAMPING * mean, mean)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(ordered))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor
