"""Choosing calibration samples: features or labels of a pool -> indices, in an order whose every prefix is a fair set.

Features are (N, D), one row a sample, whatever the network makes of it; only their directions count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError
from edgekit.schema.calibration import Choose

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

GUARD_RATIO = 0.05  # of the chosen samples, at most
_GUARD_QUANTILE = 0.999


def choose_indices(choose: Choose, features: Floats | None, labels: Indices) -> Indices:
    """Indices of `choose.count` different samples; any prefix is as balanced as its length allows.

    Args:
        features: (N, D); None where the method needs none.
        labels: (N,).

    Raises:
        DataError: there are fewer samples.
    """
    if choose.count > len(labels):
        raise DataError(
            f"{choose.count} samples are to be chosen, and the calibration split has {len(labels)}",
            "choose.count",
            "lower it, or give the split more samples",
        )
    if choose.method == "class-balanced":
        return class_balanced(labels, choose.count, choose.seed)
    if choose.method == "random":
        return np.random.default_rng(choose.seed).permutation(len(labels))[: choose.count]
    assert features is not None
    if choose.method == "k-centre":
        return k_centre(features, choose.count, choose.seed)
    return sample_bins(dataset_bins(features, choose.bins), choose.count, choose.seed)


def class_balanced(labels: Indices, count: int, seed: int) -> Indices:
    """Random samples, as many of each class as of any other; a class that has too few gives all that it has."""
    generator = np.random.default_rng(seed)
    members = [generator.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    generator.shuffle(members)  # else a prefix that is shorter than a round would always hold the first classes
    rounds = [group[turn] for turn in range(max(map(len, members))) for group in members if turn < len(group)]
    return np.array(rounds[:count])


def k_centre(features: Floats, count: int, seed: int) -> Indices:
    """Greedy k-centre: after a random first, always the sample that lies farthest from all that are chosen.

    Distances are between normalised features. The largest distance that is left is at most twice the smallest possible.

    Source: Gonzalez, Clustering to Minimize the Maximum Intercluster Distance, 1985; for choosing training samples,
    Sener and Savarese, arXiv:1708.00489.
    """
    features = normalised(features)
    chosen = [int(np.random.default_rng(seed).integers(len(features)))]
    nearest = np.full(len(features), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, 2 - 2 * features @ features[chosen[-1]])
        nearest[chosen] = -np.inf  # rounding must not make a copy of a chosen sample the farthest
        chosen.append(int(nearest.argmax()))
    return np.array(chosen)


def dataset_bins(features: Floats, bins: int) -> list[Indices]:
    """Dataset Quantization's bins: disjoint, together all samples, from what is typical to what is left over.

    Each bin is filled greedily by the graph-cut gain: sum of a sample's similarity to all that no earlier bin took,
    less twice that to what this bin has. Bins hold N // bins samples, the last one what remains. With the similarity
    0.5 + 0.5 cos the first sum is that of the features, once, and one more similarity a pick: O(N D) for each.

    Source: Zhou et al., Dataset Quantization, arXiv:2308.10524, section 3, with the similarity of its code.
    """
    features = normalised(features)
    remaining = np.arange(len(features))
    found = []
    for _ in range(bins - 1):
        size = len(features) // bins
        picks = greedy_graph_cut(features[remaining], size)
        found.append(remaining[picks])
        remaining = np.delete(remaining, picks)
    return [*found, remaining]


def greedy_graph_cut(features: Floats, count: int) -> Indices:
    """`count` picks by the graph-cut gain, in order; `features` (N, D) are normalised."""
    gains = similarity_sums(features)
    picks = np.empty(count, np.int64)
    for turn in range(count):
        picks[turn] = pick = gains.argmax()
        gains -= 2 * (0.5 + 0.5 * features @ features[pick])
        gains[pick] = -np.inf
    return picks


def similarity_sums(features: Floats) -> Floats:
    """(N,) sum of a sample's similarity to every sample, itself included, without the N x N matrix."""
    sums: Floats = 0.5 * len(features) + 0.5 * features @ features.sum(0)
    return sums


def sample_bins(bins: list[Indices], count: int, seed: int) -> Indices:
    """Random samples, from each bin in proportion to its size, the bins taking turns.

    Shares that are not whole are rounded by systematic sampling: every sample is as likely as every other.
    """
    generator = np.random.default_rng(seed)
    total = sum(map(len, bins))
    reached = np.floor(np.cumsum([len(members) * count / total for members in bins]) + generator.random())
    reached[-1] = count  # the sum is off by rounding
    quotas = np.diff(reached, prepend=0.0).astype(int)
    drawn = [generator.permutation(members)[:quota] for members, quota in zip(bins, quotas, strict=True)]
    places = [((turn + 0.5) / len(members), index) for members in drawn for turn, index in enumerate(members)]
    return np.array([index for _, index in sorted(places, key=lambda place: place[0])])


def with_range_guard(chosen: Indices, magnitudes: Floats) -> Indices:
    """`chosen`, its last samples replaced by those that show how far activations reach.

    An activation's guard is the sample whose largest magnitude stands at the 99.9th percentile of all samples: a single
    freak does not count. The samples that guard most activations come first; there are at most 5 % of them.

    Args:
        magnitudes: (N, E) largest magnitude of each of E activations, for every sample of the pool.
    """
    rank = int(np.ceil(_GUARD_QUANTILE * len(magnitudes))) - 1
    guards, votes = np.unique(np.argsort(magnitudes, axis=0, kind="stable")[rank], return_counts=True)
    wanted = guards[np.argsort(-votes, kind="stable")][: int(GUARD_RATIO * len(chosen))]
    others = chosen[~np.isin(chosen, wanted)]
    return np.concatenate((others[: len(chosen) - len(wanted)], wanted))


def normalised(features: Floats) -> Floats:
    """Rows of length one; a row of zeros stays as it is, and is at right angles to everything."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit: Floats = features.astype(np.float64) / np.maximum(lengths, np.finfo(np.float64).tiny)
    return unit
