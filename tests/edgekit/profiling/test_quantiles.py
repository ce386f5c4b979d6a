import numpy as np
import pytest

from edgekit.profiling.quantiles import bootstrap_percentiles
from edgekit.profiling.statistics import blocks_of, bootstrap_medians, draw_blocks, percentile


def drawn_out(samples: np.ndarray, blocks: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The resample itself: every block as often as it was drawn."""
    return np.repeat(samples, times[blocks].astype(int))


@pytest.mark.parametrize("p", [1.0, 50.0, 90.0, 99.0, 100.0])
def test_each_replicate_is_the_percentile_of_its_resample(p: float):
    generator = np.random.default_rng(0)
    samples = generator.gamma(2.0, size=700).round(2)  # with ties
    blocks = blocks_of(len(samples))
    draws = draw_blocks(30, generator)[:200]
    found = bootstrap_percentiles(samples, blocks, draws, p)
    assert found.tolist() == [percentile(drawn_out(samples, blocks, times), p) for times in draws]


@pytest.mark.parametrize(("count", "lengths"), [(1, ()), (2, ()), (29, ()), (1001, ()), (90, (10, 50, 30))])
def test_medians_are_those_of_the_interval_that_profiles_show(count: int, lengths: tuple[int, ...]):
    samples = np.random.default_rng(count).normal(5.0, 1.0, count)
    blocks = blocks_of(count, lengths)
    draws = draw_blocks(int(blocks.max()) + 1, np.random.default_rng(1))
    found = bootstrap_percentiles(samples, blocks, draws, 50)
    np.testing.assert_array_equal(found, bootstrap_medians(samples, blocks, draws=draws))


def test_the_spread_of_a_normal_median_is_what_theory_says():
    """Standard error of a median: sigma * sqrt(pi / 2 / n); of the 99th percentile sqrt(p (1 - p) / n) / density."""
    count, blocks = 60_000, np.arange(60_000) // 60
    samples = np.random.default_rng(2).normal(size=count)
    draws = draw_blocks(1000, np.random.default_rng(3))
    median = bootstrap_percentiles(samples, blocks, draws, 50).std()
    assert median == pytest.approx(np.sqrt(np.pi / 2 / count), rel=0.15)
    density = np.exp(-(2.3263478740408408**2) / 2) / np.sqrt(2 * np.pi)
    tail = bootstrap_percentiles(samples, blocks, draws, 99).std()
    assert tail == pytest.approx(np.sqrt(0.99 * 0.01 / count) / density, rel=0.2)
