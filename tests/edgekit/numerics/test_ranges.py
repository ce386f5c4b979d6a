"""The MSE range against a search over the raw values."""

import numpy as np
import pytest

from edgekit.numerics.quantise import affine_grid
from edgekit.numerics.ranges import SHRINKS, mse_range


def _loss(values: np.ndarray, low: float, high: float) -> float:
    scale, zero_point = affine_grid(low, high, -128, 127)
    codes = np.clip(np.rint(values / scale) + zero_point, -128, 127)
    return float((((codes - zero_point) * scale - values) ** 2).mean())


def test_range_is_the_best_of_the_candidates() -> None:
    values = np.append(np.random.default_rng(0).normal(size=5000), [25.0, -11.0])
    low, high = mse_range(values, np.ones(len(values), np.int64), float(values.min()), float(values.max()), -128, 127)
    losses = {s: _loss(values, float(values.min()) * s, float(values.max()) * s) for s in SHRINKS}
    assert _loss(values, low, high) == pytest.approx(min(losses.values()))
    assert high < 25.0


def test_even_values_keep_their_whole_range() -> None:
    values = np.linspace(-1, 3, 4001)
    low, high = mse_range(values, np.ones(4001, np.int64), -1.0, 3.0, -128, 127)
    assert (low, high) == pytest.approx((-1.0, 3.0), rel=0.02)


def test_counts_weigh_the_values() -> None:
    values = np.array([0.1, 0.2, 0.3, 10.0])
    rare = mse_range(values, np.array([10**7, 10**7, 10**7, 1]), 0.0, 10.0, -128, 127)
    common = mse_range(values, np.array([1, 1, 1, 10**7]), 0.0, 10.0, -128, 127)
    assert rare[1] < common[1]
