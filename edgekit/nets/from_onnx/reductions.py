"""Rows for operators that sum, compare or accumulate over axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from edgekit.nets.from_onnx.graph import Operator
from edgekit.nets.from_onnx.untaken import UntakenError


def axes_of(op: Operator, position: int = 1) -> list[int] | None:
    """Axes that an operator works over: an attribute or an input; None: all of them."""
    axes = op.ints(position) if op.has(position) else list(op.attribute("axes") or [])
    if axes:
        return axes
    return [] if op.attribute("noop_with_empty_axes", 0) else None


def reduce(function: Callable[..., Tensor]) -> Callable[[Operator], Any]:
    """A row for a function of a tensor, its axes and whether they are kept."""

    def row(op: Operator) -> Any:
        axes = axes_of(op)
        if axes == []:
            return op.layer(nn.Identity(), op.tensor(0))
        rank = op.rank(0)
        dims = tuple(range(rank)) if axes is None else tuple(sorted(axis % rank for axis in axes))
        return op.apply(function, op.tensor(0), dims=dims, keep=bool(op.attribute("keepdims", 1)))

    return row


def mean(x: Tensor, dims: Sequence[int], keep: bool) -> Tensor:
    """Mean over axes."""
    return x.mean(dim=tuple(dims), keepdim=keep)


def total(x: Tensor, dims: Sequence[int], keep: bool) -> Tensor:
    """Sum over axes, in the type of `x`."""
    found = x.sum(dim=tuple(dims), keepdim=keep)
    return found if found.dtype == x.dtype else found.to(x.dtype)  # torch adds narrow integers in int64


def largest(x: Tensor, dims: Sequence[int], keep: bool) -> Tensor:
    """Largest over axes."""
    return x.amax(dim=tuple(dims), keepdim=keep)


def smallest(x: Tensor, dims: Sequence[int], keep: bool) -> Tensor:
    """Smallest over axes."""
    return x.amin(dim=tuple(dims), keepdim=keep)


def product(x: Tensor, dims: Sequence[int], keep: bool) -> Tensor:
    """Product over axes, one after another."""
    for dim in sorted(dims, reverse=True):
        x = x.prod(dim=dim, keepdim=keep)
    return x


def norm1(x: Tensor, dims: Sequence[int], keep: bool) -> Tensor:
    """Sum of magnitudes over axes."""
    return total(x.abs(), dims, keep)


def norm2(x: Tensor, dims: Sequence[int], keep: bool) -> Tensor:
    """Root of the sum of squares over axes."""
    return total(x * x, dims, keep).sqrt()


def sum_square(x: Tensor, dims: Sequence[int], keep: bool) -> Tensor:
    """Sum of squares over axes."""
    return total(x * x, dims, keep)


def log_sum(x: Tensor, dims: Sequence[int], keep: bool) -> Tensor:
    """Logarithm of the sum over axes."""
    return total(x, dims, keep).log()


def log_sum_exp(x: Tensor, dims: Sequence[int], keep: bool) -> Tensor:
    """Logarithm of the sum of exponentials over axes."""
    return x.logsumexp(dim=tuple(dims), keepdim=keep)


def arg(function: Callable[..., Tensor]) -> Callable[[Operator], Any]:
    """A row for ArgMax and ArgMin; the first of equals."""

    def row(op: Operator) -> Any:
        if op.attribute("select_last_index", 0):
            raise UntakenError("select_last_index asks for the last of equals, and torch gives the first")
        axis, keep = op.attribute("axis", 0), bool(op.attribute("keepdims", 1))
        return op.apply(function, op.tensor(0), dim=axis, keepdim=keep)

    return row


def cumulated(op: Operator) -> Any:
    """CumSum along an axis, from either end, with or without the number itself."""
    (axis,) = op.ints(1)
    turned, exclusive = bool(op.attribute("reverse", 0)), bool(op.attribute("exclusive", 0))
    return op.apply(_cumulate, op.tensor(0), axis=axis, turned=turned, exclusive=exclusive)


def _cumulate(x: Tensor, axis: int, turned: bool, exclusive: bool) -> Tensor:
    x = x.flip(axis) if turned else x
    found = x.cumsum(axis, dtype=x.dtype)
    found = found - x if exclusive else found
    return found.flip(axis) if turned else found
