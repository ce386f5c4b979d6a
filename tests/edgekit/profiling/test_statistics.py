import numpy as np
import pytest

from edgekit.profiling.statistics import (
    blocks_of,
    bootstrap_medians,
    draw_blocks,
    interval,
    percentile,
    summarise,
    sustained,
    trimmed_cov,
    verdict,
)
from edgekit.schema.profile import Conditions, MeasureSettings

SETTINGS = MeasureSettings(min_runs=100, percentile=90)
CALM = Conditions()


def noise(count: int, spread: float = 0.02, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1.0, spread, count)


def test_percentiles_are_samples_by_nearest_rank():
    samples = [5.0, 1.0, 4.0, 2.0, 3.0, 6.0, 8.0, 7.0, 10.0, 9.0]
    assert [percentile(samples, p) for p in (10, 50, 90, 95, 100)] == [1.0, 5.0, 9.0, 10.0, 10.0]
    assert percentile(samples, 51) == 6.0
    assert percentile(range(1, 1001), 99) == 990  # 0.99 * 1000 is a hair above 990 in binary


def test_a_summary_by_hand():
    samples = [float(value) for value in range(1000, 0, -1)]
    found = summarise(samples)
    assert (found.n, found.mean_ms) == (1000, 500.5)
    assert (found.p50_ms, found.p90_ms, found.p95_ms, found.p99_ms) == (500.0, 900.0, 950.0, 990.0)
    assert found.std_ms == pytest.approx(288.674990, abs=1e-5)  # sqrt((n^2 - 1) / 12)
    assert found.cov_ratio == pytest.approx(288.674990 / 500.5, abs=1e-7)


def test_p99_of_20_samples_is_refused():
    assert summarise(noise(20).tolist()).p99_ms is None
    assert summarise(noise(999).tolist()).p99_ms is None
    assert summarise(noise(1000).tolist()).p99_ms is not None


def test_nothing_cannot_be_summarised():
    with pytest.raises(ValueError, match="no samples"):
        summarise([])


def test_the_interval_is_the_same_every_time_and_holds_p50():
    samples = noise(600).tolist()
    first, second = summarise(samples), summarise(samples)
    assert first == second
    assert first.p50_low_ms < first.p50_ms < first.p50_high_ms


def test_the_interval_holds_the_true_median_about_as_often_as_it_says():
    hits = 0
    for seed in range(100):
        found = summarise(noise(300, seed=seed).tolist())
        hits += found.p50_low_ms <= 1.0 <= found.p50_high_ms
    assert 0.88 <= hits / 100 <= 0.99


def test_slow_waves_widen_the_interval():
    """Blocks keep neighbours together: the same samples in random order look steadier than they were."""
    wave = 1.0 + 0.1 * np.sin(np.arange(3000) / 3000 * 4 * np.pi) + noise(3000, 0.01) - 1.0
    shuffled = np.random.default_rng(1).permutation(wave)
    in_order, mixed = summarise(wave.tolist()), summarise(shuffled.tolist())
    width = in_order.p50_high_ms - in_order.p50_low_ms
    assert width > 3 * (mixed.p50_high_ms - mixed.p50_low_ms)


def test_a_bootstrap_draws_whole_blocks():
    samples, blocks = np.array([1.0, 1.0, 1.0, 9.0, 9.0, 9.0]), np.array([0, 0, 0, 1, 1, 1])
    draws = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    np.testing.assert_array_equal(bootstrap_medians(samples, blocks, draws=draws), [1.0, 9.0, 1.0])
    drawn = draw_blocks(7, np.random.default_rng(0))
    assert drawn.shape == (1000, 7)
    np.testing.assert_array_equal(drawn.sum(axis=1), 7)


def test_blocks():
    np.testing.assert_array_equal(blocks_of(3), [0, 1, 2])
    np.testing.assert_array_equal(blocks_of(4, [1, 3]), [0, 1, 1, 1])
    sizes = np.bincount(blocks_of(100))
    assert (len(sizes), sizes.min(), sizes.max()) == (30, 3, 4)


def test_the_interval_cuts_2_5_per_cent_off_each_end():
    assert interval(np.arange(1001, dtype=float)) == pytest.approx((25.0, 975.0))


def test_a_calm_measurement_is_valid():
    assert verdict(noise(300).tolist(), CALM, SETTINGS) == (True, ())


@pytest.mark.parametrize(
    ("samples", "conditions", "stand_in", "reason"),
    [
        (noise(300), Conditions(throttled=True), False, "throttled"),
        (noise(300) * np.linspace(1.0, 1.25, 300), CALM, False, "drifted"),
        (noise(300) * np.linspace(1.25, 1.0, 300), CALM, False, "drifted"),
        (noise(300, 0.2), CALM, False, "noisy"),
        (noise(99), CALM, False, "too few samples"),
        (noise(300), CALM, True, "stand-in"),
    ],
)
def test_every_reason_on_its_own(samples: np.ndarray, conditions: Conditions, stand_in: bool, reason: str):
    assert verdict(samples.tolist(), conditions, SETTINGS, stand_in=stand_in) == (False, (reason,))


def test_reasons_add_up_in_one_order():
    samples = (noise(90, 0.15) * np.linspace(1.0, 3.0, 90)).tolist()
    found = verdict(samples, Conditions(throttled=True), SETTINGS, stand_in=True)
    assert found == (False, ("throttled", "drifted", "noisy", "too few samples", "stand-in"))


def test_a_difference_within_the_noise_of_the_blocks_is_no_drift():
    """Two levels that come and go, a little more often low in the first third and high in the last."""
    low, high = np.repeat([1.0] * 16 + [1.4] * 14, 10), np.repeat([1.0] * 14 + [1.4] * 16, 10)
    samples = np.concatenate([low, low, high]) * noise(900, 0.01)
    assert percentile(samples[-300:], 50) / percentile(samples[:300], 50) > 1.3
    assert "drifted" not in verdict(samples.tolist(), CALM, SETTINGS)[1]


def test_rare_outliers_are_not_noise_but_stay_in_the_summary():
    samples = noise(400)
    samples[::40] = 70.0  # ten runs of seventy milliseconds among runs of one
    assert verdict(samples.tolist(), CALM, SETTINGS)[0]
    assert trimmed_cov(samples) < 0.05 < summarise(samples.tolist()).cov_ratio


def test_the_highest_percentile_asked_for_decides_what_is_few():
    asked = SETTINGS.model_copy(update={"percentile": 99})
    assert verdict(noise(999).tolist(), CALM, asked)[1] == ("too few samples",)
    assert verdict(noise(1000).tolist(), CALM, asked)[0]


def window(kept: int, runs: int, **changes: object) -> dict[str, object]:
    seen = {"wall_s": 60.0, "clock_mhz_min": 1500.0, "gpu_clock_mhz_min": None, "temp_c_max": 60.0}
    return {**seen, "kept": kept, "runs": runs, "frames": None, "throttled": False, "throttled_by": [], **changes}


def test_a_long_run_keeps_its_minutes_and_how_the_last_compares_with_the_first():
    minutes = [noise(500) * 1.0, noise(300, seed=1) * 1.1, noise(400, seed=2) * 1.3]
    hot = {"temp_c_max": 86.0, "throttled": True, "throttled_by": ["soft temperature limit"]}
    seen = [window(500, 5000), window(300, 3000, frames={"missed": 4}), window(400, 4000, **hot)]
    found = sustained(np.concatenate(minutes).tolist(), seen, 12_000)
    assert [row.runs for row in found.minutes] == [5000, 3000, 4000]
    assert [row.p50_ms for row in found.minutes] == [percentile(minute, 50) for minute in minutes]
    assert [row.missed for row in found.minutes] == [None, 4, None]
    assert (found.minutes[2].throttled_by, found.minutes[2].temp_c_max) == (("soft temperature limit",), 86.0)
    assert found.slowdown == pytest.approx(1.3, abs=0.01)
    assert found.low < found.slowdown < found.high
    assert found.low > 1.28
    assert found.kept_ratio == 0.1


def test_drift_is_the_result_of_a_long_run_and_no_reason_against_it():
    samples = np.concatenate([noise(400), noise(400, seed=1) * 1.5])
    assert verdict(samples, CALM, SETTINGS) == (False, ("drifted", "noisy"))
    assert verdict(samples, CALM, SETTINGS, windows=(400, 400)) == (True, ())


def test_a_long_run_is_noisy_where_its_minutes_are():
    rough = np.concatenate([noise(400, 0.3, seed) for seed in range(3)]).clip(0.1)
    assert verdict(rough, CALM, SETTINGS, windows=(400, 400, 400)) == (False, ("noisy",))
    one_bad = np.concatenate([noise(400), noise(400, 0.3, 1).clip(0.1), noise(400, seed=2)])
    assert verdict(one_bad, CALM, SETTINGS, windows=(400, 400, 400)) == (True, ())


def test_throttling_stays_a_reason_in_a_long_run():
    held = Conditions(throttled=True)
    assert verdict(noise(400), held, SETTINGS, windows=(200, 200)) == (False, ("throttled",))
