"""The order that a part's samples are put into before splits are cut out of it: the same on every machine, for ever."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError

Indices = NDArray[np.int64]


def sample_order(order: Literal["shuffled", "stratified"], seed: int, labels: NDArray[Any], where: str) -> Indices:
    """Indices of all samples in that order.

    Args:
        labels: (N, ...); only `stratified` looks at them.

    Raises:
        DataError: `stratified` of labels that are no classes.
    """
    if order == "shuffled":
        return np.argsort(random_numbers(len(labels), seed), kind="stable")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"order is stratified, and labels are {labels.dtype} {labels.shape}, which are no classes",
            where,
            "write `order: shuffled`",
        )
    return stratified(labels, seed)


def stratified(labels: Indices, seed: int) -> Indices:
    """Shuffled, and every run of samples has of each class as many as its length gives it, give or take one.

    A class of n samples has one at (i + 0.5) / n of the way, for every i.
    """
    noise = random_numbers(len(labels), seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(noise[members], kind="stable")]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((noise, place))


def random_numbers(count: int, seed: int) -> NDArray[np.uint64]:
    """SplitMix64's numbers of a seed, from the first on.

    Not NumPy's generators: their streams may change with its version, and then test samples would be trained on.

    Source: Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
    """
    with np.errstate(over="ignore"):
        state = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(state ^ (state >> np.uint64(31)))
