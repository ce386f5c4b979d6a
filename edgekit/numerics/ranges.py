"""Ranges of activations from histograms: which part of what was seen the integer grid should cover.

A histogram here is `counts` (2 B,) of equal bins of `width`, as many below zero as above: bin i holds the values from
(i - B) * width to (i - B + 1) * width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.numerics.quantise import affine_grid

SHRINKS = tuple(1.0 - step / 100 for step in range(80))
_SMOOTHING = 1e-4  # of a count, in every empty bin
_TERMS = 12  # of a series in at most 0.2: the rest is below 1e-9 of a count


def mse_range(
    values: NDArray[np.float64], counts: NDArray[np.int64], low: float, high: float, qmin: int, qmax: int
) -> tuple[float, float]:
    """The shrunken [low, high] whose affine grid loses least, in mean squared error over a histogram.

    A grid that covers rare outliers is coarse for everything else; one that cuts them off errs on them alone.
    Candidates are 80 shrinks of both ends by 1 % each; the whole range wins a tie. Neither a search over both ends
    apart, as in QDrop, nor the power 2.4 of LAPQ left less error in logits: docs/calibration.md.

    Args:
        values: (B,) centres of the bins.
        counts: (B,) samples in each.
        low, high: what was seen; low <= 0 <= high.

    Source: the MSE observer of BRECQ, Li et al., arXiv:2102.05426, without its per-channel form.
    """
    best, best_error = (low, high), np.inf
    filled = counts > 0
    values, counts = values[filled], counts[filled]
    for shrink in SHRINKS:
        scale, zero_point = affine_grid(low * shrink, high * shrink, qmin, qmax)
        codes = np.clip(np.rint(values / scale) + zero_point, qmin, qmax)
        error = float((((codes - zero_point) * scale - values) ** 2 * counts).sum())
        if error < best_error:
            best, best_error = (low * shrink, high * shrink), error
    return best


def percentile_range(
    counts: NDArray[np.int64], width: float, low: float, high: float, ratio: float
) -> tuple[float, float]:
    """The range that holds the middle `ratio` of all values: (1 - ratio) / 2 of them are cut off at either end.

    Within a bin values count as evenly spread, so an end is off by less than `width`. The range holds 0 and does not
    leave [low, high].

    Args:
        low, high: what was seen; low <= 0 <= high.
    """
    shares = np.concatenate(([0.0], np.cumsum(counts) / counts.sum()))
    edges = (np.arange(len(counts) + 1) - len(counts) // 2) * width
    ends = np.interp([(1 - ratio) / 2, (1 + ratio) / 2], shares, edges)
    return max(low, min(float(ends[0]), 0.0)), min(high, max(float(ends[1]), 0.0))


def entropy_range(counts: NDArray[np.int64], width: float, low: float, high: float, levels: int) -> tuple[float, float]:
    """The range whose magnitudes, in `levels` steps, tell most of how all magnitudes are distributed.

    A spike in the first bin, as the zeros behind a ReLU make, is cut down to its neighbour: it is exact in every grid,
    and would outweigh everything else.

    Args:
        low, high: what was seen; low <= 0 <= high. Neither end of the result leaves it.
        levels: codes on one side of zero: 128 of int8.

    Source: Migacz, 8-bit Inference with TensorRT, GTC 2017.
    """
    half = len(counts) // 2
    magnitudes = (counts[half:] + counts[:half][::-1]).astype(np.float64)
    magnitudes = magnitudes[: np.flatnonzero(magnitudes)[-1] + 1]
    if len(magnitudes) <= levels:  # as many levels as bins: no candidate loses anything that a histogram can tell
        return low, high
    magnitudes[0] = min(magnitudes[:2])
    divergences = entropy_divergences(magnitudes, levels)
    if not np.isfinite(divergences).any():
        return low, high
    threshold = (levels + int(divergences.argmin()) + 0.5) * width
    return max(low, -float(threshold)), min(high, float(threshold))


def entropy_divergences(counts: NDArray[np.float64], levels: int) -> NDArray[np.float64]:
    """KL(P || Q) of every candidate: of the first i bins of magnitudes, for i from `levels` to B.

    P is counts[:i] with everything beyond added to its last bin. Q is counts[:i], without that, summed in `levels`
    equal chunks; each sum is spread evenly over those bins of its chunk that P fills. Empty bins of either get 1e-4 of
    a count, taken evenly from its filled ones; a share of 1e-4, as some write it, would leave rare bins less than
    nothing. Infinite where Q is empty.

    Args:
        counts: (B,) whole numbers; B a few thousand at most.

    Returns:
        (B - levels + 1,) float64.
    """
    sums = np.concatenate(([0.0], np.cumsum(counts)))
    filled = np.concatenate(([0], np.cumsum(counts > 0)))
    stops = np.arange(levels, len(counts) + 1)
    beyond = sums[-1] - sums[stops]
    last = counts[stops - 1] + beyond  # (R,) P's last bin, R candidates
    only_beyond = (counts[stops - 1] == 0) & (last > 0)
    bins = filled[stops] + only_beyond  # that P fills
    taken = _SMOOTHING * (stops - bins) / np.maximum(bins, 1)
    edges = -(-np.arange(levels + 1) * stops[:, None] // levels)  # (R, levels + 1), rounded up
    chunk_sums, chunk_bins = np.diff(sums[edges]), np.diff(filled[edges])
    chunk_bins[:, -1] += only_beyond
    # Q is constant over a chunk, so cumulative counts are all that its half of the divergence needs
    spread = np.divide(chunk_sums, chunk_bins, out=np.zeros_like(chunk_sums), where=chunk_bins > 0)
    spread_bins = np.where(spread > 0, chunk_bins, 0).sum(1)
    spread_taken = _SMOOTHING * (stops - spread_bins) / np.maximum(spread_bins, 1)
    logs = np.log(np.where(spread > 0, spread - spread_taken[:, None], _SMOOTHING))
    mass = chunk_sums - taken[:, None] * chunk_bins  # of P, over the bins that it fills
    mass[:, -1] += beyond
    own = _before_last(counts, stops, taken) + np.where(
        last > 0, (last - taken) * np.log(np.maximum(last - taken, _SMOOTHING)), 0.0
    )
    # what P's empty bins get, Q's get too: these terms are 0
    found = (own - (mass * logs).sum(1)) / sums[-1] + np.log(np.maximum(sums[stops], 1.0) / sums[-1])
    return np.where(spread_bins > 0, found, np.inf)


def _before_last(
    counts: NDArray[np.float64], stops: NDArray[np.int64], taken: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(R,) sum of x log x over the filled bins before stop - 1, where x = count - taken.

    As a series in `taken`, so that one cumulative sum a term serves every candidate: x log x at h - e is
    h log h - e (1 + log h) + the sum over n of e^n h^(1 - n) / (n (n - 1)). e is at most 0.2 with 2,048 bins.
    """
    whole = np.maximum(counts, 1.0)  # an empty bin adds 0 to each term, by `weight`
    weight = (counts > 0).astype(np.float64)
    terms = [whole * np.log(whole), -(1 + np.log(whole))]
    terms += [whole ** (1 - n) / (n * (n - 1)) for n in range(2, _TERMS)]
    total = np.zeros(len(stops))
    for n, term in enumerate(terms):
        total += taken**n * np.concatenate(([0.0], np.cumsum(weight * term)))[stops - 1]
    return total
