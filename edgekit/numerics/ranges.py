"""Ranges of activations from histograms: which part of what was seen the integer grid should cover."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.numerics.quantise import affine_grid

SHRINKS = tuple(1.0 - step / 100 for step in range(80))


def mse_range(
    values: NDArray[np.float64], counts: NDArray[np.int64], low: float, high: float, qmin: int, qmax: int
) -> tuple[float, float]:
    """The shrunken [low, high] whose affine grid loses least, in mean squared error over a histogram.

    A grid that covers rare outliers is coarse for everything else; one that cuts them off errs on them alone.
    Candidates are 80 shrinks of both ends by 1 % each; the whole range wins a tie.

    Args:
        values: (B,) centres of the bins.
        counts: (B,) samples in each.
        low, high: what was seen; low <= 0 <= high.

    Source: the MSE observer of BRECQ, Li et al., arXiv:2102.05426, without its per-channel form.
    """
    best, best_error = (low, high), np.inf
    for shrink in SHRINKS:
        scale, zero_point = affine_grid(low * shrink, high * shrink, qmin, qmax)
        codes = np.clip(np.rint(values / scale) + zero_point, qmin, qmax)
        error = float((((codes - zero_point) * scale - values) ** 2 * counts).sum())
        if error < best_error:
            best, best_error = (low * shrink, high * shrink), error
    return best
