"""Bootstrap replicates of any percentile, fast enough to compare long histories."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.profiling.statistics import Floats


def bootstrap_percentiles(samples: Floats, blocks: NDArray[np.int64], draws: Floats, p: float) -> Floats:
    """The p-th percentile (nearest rank) of each resample of whole blocks; at p = 50 what `bootstrap_medians` gives.

    All resamples are searched at once: with the samples sorted, how many of each block lie at or below a rank is
    counted once, and a resample reaches its percentile at the first rank where those counts, times how often it drew
    each block, add up to p per cent of its size. The search halves the ranks: 10,000 samples take 14 looks.

    Args:
        samples: (n,) in the order they were taken.
        blocks: (n,) block of each sample, 0 up to the number of blocks - 1.
        draws: (replicates, blocks) how often each block is drawn.
        p: in (0, 100].

    Returns:
        (replicates,)
    """
    order = np.argsort(samples, kind="stable")
    counts = np.cumsum(np.arange(draws.shape[1])[:, None] == blocks[order], axis=1, dtype=np.int32)  # (blocks, n)
    sizes = draws @ counts[:, -1]
    wanted = np.ceil(np.round(p / 100.0 * sizes, 9))
    low, high = np.zeros(len(draws), dtype=np.int64), np.full(len(draws), len(samples) - 1)
    while np.any(low < high):
        middle = (low + high) // 2
        reached = np.einsum("rb,br->r", draws, counts[:, middle]) >= wanted
        low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
    return samples[order][low]
