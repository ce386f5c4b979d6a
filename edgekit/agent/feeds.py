"""Inputs to measure with: random, and the same every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def random_feeds(inputs: list[dict[str, Any]], seed: int) -> dict[str, NDArray[Any]]:
    """One batch for every input by the artifact's names, fixed by the seed.

    Floats are standard normal. Codes are uniform over their range. Other integers are 0, which is in the range of any
    index.
    """
    generator = np.random.default_rng(seed)
    feeds: dict[str, NDArray[Any]] = {}
    for tensor in inputs:
        dtype, shape = np.dtype(tensor["dtype"]), tuple(tensor["shape"])
        if dtype.kind == "f":
            feeds[tensor["name"]] = generator.standard_normal(shape).astype(dtype)
        elif tensor.get("scale") is not None:
            limits = np.iinfo(dtype)
            feeds[tensor["name"]] = generator.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
        else:
            feeds[tensor["name"]] = np.zeros(shape, dtype)
    return feeds
