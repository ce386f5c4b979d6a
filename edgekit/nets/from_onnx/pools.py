"""Rows for pools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.nets.from_onnx.graph import Operator
from edgekit.nets.from_onnx.untaken import UntakenError
from edgekit.nets.from_onnx.windows import Window, layer_for, window_of

_AVERAGE = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)


def max_pool(op: Operator) -> Any:
    """MaxPool. Uneven padding repeats the border, which no maximum over a window that reaches inside notices."""
    if len(op.outputs) > 1:
        raise UntakenError("the places of its maxima are asked for")
    window = window_of(op, op.attribute("kernel_shape"))
    kind = layer_for((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), len(window.kernel))
    ceil, padding, source = window.ceil, window.begin, op.tensor(0)
    at_end = not any(window.begin) and any(window.end)
    if at_end and not window.ceil and _counts_of_ceil(op, window) == window.counts(op.shape(0)[2:]):
        ceil = True  # the windows that reach out at the end are those that rounding up adds
    elif not window.even or any(2 * b > k for b, k in zip(window.begin, window.kernel, strict=True)):
        padding = (0,) * len(padding)
        source = op.apply_part(functional.pad, "pad", source, pad=window.flat, mode="replicate")
    layer = kind(window.kernel, window.stride, padding, window.dilation, ceil_mode=ceil)
    return op.layer(layer, source)


def _counts_of_ceil(op: Operator, window: Window) -> tuple[int, ...]:
    """Windows of torch's pool with `ceil_mode` and no padding: the last one begins inside the input."""
    found = []
    for n, k, s, d in zip(op.shape(0)[2:], window.kernel, window.stride, window.dilation, strict=True):
        count = -(-(n - (d * (k - 1) + 1)) // s) + 1
        found.append(count - 1 if (count - 1) * s >= n else count)
    return tuple(found)


def average_pool(op: Operator) -> Any:
    """AveragePool; uneven padding, or dilation, is worked out by sums and counts."""
    window = window_of(op, op.attribute("kernel_shape"))
    counted = bool(op.attribute("count_include_pad", 0))
    axes = len(window.kernel)
    layer_for(_AVERAGE, axes)
    if set(window.dilation) != {1}:
        raise UntakenError(f"its window is dilated by {list(window.dilation)}, which torch has for no average")
    if window.even and all(2 * b <= k for b, k in zip(window.begin, window.kernel, strict=True)):
        kind = layer_for((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), axes)
        layer = kind(window.kernel, window.stride, window.begin, window.ceil, counted)
        return op.layer(layer, op.tensor(0))
    if window.ceil:
        raise UntakenError("it rounds up and pads unevenly")
    return op.layer(UnevenAverage(window, op.shape(0)[2:], counted=counted), op.tensor(0))


class UnevenAverage(nn.Module):
    """An average over windows of an input that is padded differently by side.

    The sum over each window, in units of a full one, divided by how much of the window counts.
    """

    share: Tensor

    def __init__(self, window: Window, sizes: Sequence[int], *, counted: bool) -> None:
        super().__init__()
        self.window = window
        inside = torch.full((1, 1, *sizes), 1.0)
        share = self._average(inside) if not counted else torch.ones_like(self._average(inside))
        self.register_buffer("share", 1 / share, persistent=False)

    def _average(self, x: Tensor) -> Tensor:
        average = _AVERAGE[len(self.window.kernel) - 1]
        padded = functional.pad(x, self.window.flat)
        return average(padded, self.window.kernel, self.window.stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C, ...)."""
        return self._average(x) * self.share


def lp_pool(op: Operator) -> Any:
    """LpPool without padding."""
    window, p = window_of(op, op.attribute("kernel_shape")), op.attribute("p", 2)
    if any(window.flat) or window.ceil or set(window.dilation) != {1}:
        raise UntakenError("it pads, rounds up or dilates")
    layer_for(_AVERAGE, len(window.kernel))
    return op.apply(_lp_pool, op.tensor(0), p=p, kernel=window.kernel, stride=window.stride)


def _lp_pool(x: Tensor, p: int, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    full = 1
    for size in kernel:
        full *= size
    average = _AVERAGE[len(kernel) - 1]
    return (average(x.abs() ** p, kernel, stride) * full) ** (1 / p)


def global_average(op: Operator) -> Any:
    """GlobalAveragePool."""
    kind = layer_for((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), op.rank(0) - 2)
    return op.layer(kind(1), op.tensor(0))


def global_max(op: Operator) -> Any:
    """GlobalMaxPool."""
    return op.apply(_global_max, op.tensor(0), dims=tuple(range(2, op.rank(0))))


def _global_max(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    return x.amax(dims, keepdim=True)
