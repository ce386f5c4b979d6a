"""Integer grids: scale and zero point from a range, codes from values, values from codes.

real = scale * (code - zero_point) everywhere. Scales are float32 numbers, because that is what every runtime stores:
a scale kept in higher precision here would round differently there.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SMALLEST_SCALE = 2.0**-23


def affine_grid(low: float, high: float, qmin: int, qmax: int) -> tuple[float, int]:
    """Scale and zero point of the affine grid [qmin, qmax] that covers [low, high] and holds 0 exactly.

    The range is first extended to hold 0: padding and ReLU must have a code of their own.

    Source: Jacob et al., arXiv:1712.05877, eq. 1.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32(max((high - low) / (qmax - qmin), SMALLEST_SCALE)))
    zero_point = int(np.clip(np.rint(qmin - low / scale), qmin, qmax))
    return scale, zero_point


def symmetric_scale(magnitude: float, qmax: int) -> float:
    """Scale of the grid with zero point 0 on which `magnitude` >= 0 has the code `qmax`."""
    return float(np.float32(max(magnitude / qmax, SMALLEST_SCALE)))


def channel_scales(weight: Tensor, axis: int, qmax: int) -> Tensor:
    """Symmetric min-max scales, one per index of `axis`: float32 (C,). An all-zero channel gets the smallest scale."""
    others = [dim for dim in range(weight.dim()) if dim != axis]
    magnitude = weight.detach().abs().amax(others) if others else weight.detach().abs()
    return (magnitude.double() / qmax).clamp_min(SMALLEST_SCALE).float()


def encode(
    values: Tensor, scale: Tensor | float, zero_point: int, qmin: int, qmax: int, axis: int | None = None
) -> Tensor:
    """Integer codes of `values`, int32, rounded half to even and clipped to [qmin, qmax].

    Args:
        scale: one number, or (C,) along `axis`.
    """
    if isinstance(scale, Tensor) and axis is not None:
        scale = _along(scale, axis, values.dim())
    return (values / scale).round().add(zero_point).clamp(qmin, qmax).to(torch.int32)


def decode(codes: Tensor, scale: Tensor | float, zero_point: int = 0, axis: int | None = None) -> Tensor:
    """float32 values of integer codes; `scale` as in `encode`."""
    if isinstance(scale, Tensor) and axis is not None:
        scale = _along(scale, axis, codes.dim())
    return (codes.to(torch.float32) - zero_point) * scale


def _along(scale: Tensor, axis: int, dims: int) -> Tensor:
    shape = [1] * dims
    shape[axis] = -1
    return scale.reshape(shape)
