"""Ranges from histograms against searches over the raw values, numpy's quantiles and scipy's divergence."""

import numpy as np
import pytest
from scipy.stats import entropy

from edgekit.numerics.quantise import affine_grid
from edgekit.numerics.ranges import SHRINKS, entropy_divergences, entropy_range, mse_range, percentile_range

HALF = 2048


def _loss(values: np.ndarray, low: float, high: float) -> float:
    scale, zero_point = affine_grid(low, high, -128, 127)
    codes = np.clip(np.rint(values / scale) + zero_point, -128, 127)
    return float((((codes - zero_point) * scale - values) ** 2).mean())


def _histogram(values: np.ndarray) -> tuple[np.ndarray, float]:
    span = float(np.abs(values).max())
    return np.histogram(values, 2 * HALF, (-span, span))[0], span / HALF


def _centres(width: float) -> np.ndarray:
    return (np.arange(-HALF, HALF) + 0.5) * width


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


@pytest.mark.parametrize("ratio", [0.9, 0.99, 0.999, 0.9999])
@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_numpys_within_a_bin(ratio: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = np.append(
        generator.normal(size=20_000) * 2 + 0.3, generator.normal(size=203) * 9
    )  # no share of 20,203 is whole
    counts, width = _histogram(values)
    found = percentile_range(counts, width, float(values.min()), float(values.max()), ratio)
    wanted = np.quantile(values, [(1 - ratio) / 2, (1 + ratio) / 2], method="inverted_cdf")
    assert found == pytest.approx(tuple(wanted), abs=width)
    assert found != pytest.approx(tuple(wanted), abs=width / 1e4)  # bins were used, not values


def test_within_a_bin_a_percentile_is_in_proportion() -> None:
    # 100 values in the bin [1, 2), none elsewhere: 90 % of them lie between 1.05 and 1.95; 0 is held all the same
    counts = np.array([0, 0, 0, 0, 0, 100, 0, 0])
    assert percentile_range(counts, 1.0, -4.0, 4.0, 0.9) == pytest.approx((0.0, 1.95))


def test_all_of_the_values_are_the_range_that_was_seen() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    counts, width = _histogram(values)
    low, high = float(values.min()), float(values.max())
    assert percentile_range(counts, width, low, high, 1.0) == (low, high)


def _one_divergence(counts: np.ndarray, stop: int, levels: int) -> float:
    """The rule as it is stated, bin by bin, with scipy's divergence."""
    reference = counts[:stop].copy()
    reference[-1] += counts[stop:].sum()
    candidate = np.zeros(stop)
    for chunk in range(levels):
        inside = [k for k in range(stop) if k * levels // stop == chunk]
        filled = [k for k in inside if reference[k]]
        for k in filled:
            candidate[k] = counts[inside].sum() / len(filled)
    if not candidate.any():
        return float("inf")

    def smoothed(bins: np.ndarray) -> np.ndarray:
        empty = bins == 0
        return np.where(empty, 1e-4, bins - 1e-4 * empty.sum() / (~empty).sum())

    return float(entropy(smoothed(reference), smoothed(candidate)))


@pytest.mark.parametrize(
    "counts",
    [
        np.histogram(np.abs(np.random.default_rng(0).normal(size=3000)), 90)[0],  # with empty bins in the tail
        np.histogram(np.abs(np.random.default_rng(1).normal(size=10**5)), 70)[0],
        np.random.default_rng(2).integers(0, 3, 80),  # a third of the bins empty
        np.append(np.zeros(40), np.arange(30)),  # the first candidates are empty
    ],
)
def test_every_divergence_is_scipys(counts: np.ndarray) -> None:
    counts = counts.astype(np.float64)
    found = entropy_divergences(counts, 32)
    wanted = [_one_divergence(counts, stop, 32) for stop in range(32, len(counts) + 1)]
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_a_divergence_worked_out_by_hand() -> None:
    # [8, 2, 4, 2] and 2 levels. Of two bins: P [8, 2 + 6], Q [8, 2]. Of three: P [8, 2, 4 + 2] and chunks [8, 2], [4].
    # Of four: P [8, 2, 4, 2], Q [5, 5, 3, 3].
    def divergence(p: list[float], q: list[float]) -> float:
        return sum(a / sum(p) * np.log(a / sum(p) / (b / sum(q))) for a, b in zip(p, q, strict=True))

    wanted = [divergence([8, 8], [8, 2]), divergence([8, 2, 6], [5, 5, 4]), divergence([8, 2, 4, 2], [5, 5, 3, 3])]
    np.testing.assert_allclose(entropy_divergences(np.array([8.0, 2, 4, 2]), 2), wanted, rtol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_entropy_cuts_outliers_that_squared_error_keeps(seed: int) -> None:
    """N(0, 1) with 0.02 % of its values twelve times as wide; known of one draw: 4.2 of 30.9, and 22.9 by error."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=100_000)
    values[:20] *= 12
    low, high = float(values.min()), float(values.max())
    counts, width = _histogram(values)
    by_entropy = entropy_range(counts, width, low, high, 128)
    by_error = mse_range(_centres(width), counts, low, high, -128, 127)
    assert 3.8 < by_entropy[1] < 4.5
    assert by_entropy[0] == -by_entropy[1]
    assert by_error[1] > 2 * by_entropy[1]
    assert _loss(values, *by_entropy) > 2 * _loss(values, low, high)  # why entropy is not the default
    assert _loss(values, *by_error) < _loss(values, low, high)


def test_the_zeros_behind_a_relu_do_not_decide() -> None:
    values = np.abs(np.random.default_rng(0).normal(size=100_000))
    plain, width = _histogram(np.append(values, 8.0))
    spiked, _ = _histogram(np.concatenate((values, [8.0], np.zeros(10_000_000))))
    without = entropy_range(plain, width, 0.0, 8.0, 128)
    assert entropy_range(spiked, width, 0.0, 8.0, 128) == pytest.approx(without, abs=2 * width)
    assert without[0] == 0.0
    assert without[1] < 6.0


def test_entropy_has_nothing_to_choose_where_levels_outnumber_bins() -> None:
    counts = np.zeros(8, np.int64)
    counts[4:7] = 5  # nothing in the last bin: three are left
    assert entropy_range(counts, 1.0, 0.0, 3.0, 3) == (0.0, 3.0)
    assert entropy_range(counts, 1.0, 0.0, 3.0, 2)[1] <= 3.0
