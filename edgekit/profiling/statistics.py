"""Statistics of latency samples, and whether they may be believed. The rules are explained in docs/measuring.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.agent.timing import runs_needed
from edgekit.schema.profile import Conditions, MeasureSettings, MinuteRow, Summary, Sustained

DRIFT_RATIO = 1.10
NOISE_COV_RATIO = 0.10
TRIM_RATIO = 0.05
CONFIDENCE = 0.95
_REPLICATES = 1000
_BLOCKS = 30
_SEED = 20240229

Floats = NDArray[np.float64]


def percentile(samples_ms: Sequence[float] | Floats, p: float) -> float:
    """The smallest sample with at least p per cent of all samples at or below it (nearest rank): always a sample.

    p in (0, 100].
    """
    ordered = np.sort(np.asarray(samples_ms, dtype=np.float64))
    rank = math.ceil(round(p / 100.0 * len(ordered), 9))
    return float(ordered[max(rank, 1) - 1])


def summarise(samples_ms: Sequence[float]) -> Summary:
    """Statistics of samples in the order they were taken.

    Percentiles are nearest rank; p99 is None below the 1,000 samples that it needs. The interval of p50 is a 95 %
    percentile interval of a block bootstrap (`bootstrap_medians`). std divides by n.

    Raises:
        ValueError: no samples.
    """
    if not samples_ms:
        raise ValueError("no samples to summarise")
    samples = np.asarray(samples_ms, dtype=np.float64)
    low, high = interval(bootstrap_medians(samples, blocks_of(len(samples)), np.random.default_rng(_SEED)))
    mean, std = float(samples.mean()), float(samples.std())
    return Summary(
        n=len(samples),
        mean_ms=mean,
        p50_ms=percentile(samples, 50),
        p50_low_ms=low,
        p50_high_ms=high,
        p90_ms=percentile(samples, 90),
        p95_ms=percentile(samples, 95),
        p99_ms=percentile(samples, 99) if len(samples) >= runs_needed(99) else None,
        std_ms=std,
        cov_ratio=std / mean if mean else 0.0,
    )


def verdict(
    samples_ms: Sequence[float],
    conditions: Conditions,
    settings: MeasureSettings,
    *,
    stand_in: bool = False,
    windows: Sequence[int] = (),
) -> tuple[bool, tuple[str, ...]]:
    """Whether the samples may pass a gate, and every reason why not.

    throttled: the device says that it held a processor back, before, during or after.
    drifted: the median of the last third over that of the first lies outside [1 / 1.1, 1.1], and so does the whole of
        its 95 % bootstrap interval. Of a sustained run drift is the result, so it is no reason there.
    noisy: without the slowest and the fastest 5 % the standard deviation is over 10 % of the mean. Of a sustained run
        the minutes are judged each by itself, and the median of them counts.
    too few samples: fewer than `min_runs`, or than the highest percentile asked for needs.
    stand-in: measured on other hardware than the target's.

    A missed deadline is a result and no reason.

    Args:
        windows: samples of each minute of a sustained run; empty: it is none.
    """
    samples = np.asarray(samples_ms, dtype=np.float64)
    reasons = []
    if conditions.throttled:
        reasons.append("throttled")
    if not windows and _drifted(samples):
        reasons.append("drifted")
    parts = np.split(samples, np.cumsum(windows)[:-1]) if windows else [samples]
    if float(np.median([trimmed_cov(part) for part in parts])) > NOISE_COV_RATIO:
        reasons.append("noisy")
    if len(samples) < max(settings.min_runs, runs_needed(settings.percentile)):
        reasons.append("too few samples")
    if stand_in:
        reasons.append("stand-in")
    return not reasons, tuple(reasons)


def sustained(samples_ms: Sequence[float], windows: Sequence[Mapping[str, Any]], runs: int) -> Sustained:
    """How a run of many minutes went, and how much slower its last minute was than its first.

    Args:
        samples_ms: kept samples in order.
        windows: of each minute what the agent saw: wall_s, runs, kept, frames and the extremes of the conditions.
        runs: that were made in all.
    """
    samples = np.asarray(samples_ms, dtype=np.float64)
    parts = np.split(samples, np.cumsum([window["kept"] for window in windows])[:-1])
    first, last = parts[0], parts[-1]
    generator = np.random.default_rng(_SEED)
    ratios = bootstrap_medians(last, blocks_of(len(last)), generator) / bootstrap_medians(
        first, blocks_of(len(first)), generator
    )
    low, high = interval(ratios)
    minutes = tuple(
        MinuteRow(
            seconds=window["wall_s"],
            runs=window["runs"],
            p50_ms=percentile(part, 50),
            p90_ms=percentile(part, 90),
            clock_mhz_min=window["clock_mhz_min"],
            gpu_clock_mhz_min=window["gpu_clock_mhz_min"],
            temp_c_max=window["temp_c_max"],
            throttled=window["throttled"],
            throttled_by=tuple(window["throttled_by"]),
            missed=None if window["frames"] is None else window["frames"]["missed"],
        )
        for part, window in zip(parts, windows, strict=True)
    )
    slowdown = percentile(last, 50) / percentile(first, 50)
    return Sustained(minutes=minutes, slowdown=slowdown, low=low, high=high, kept_ratio=len(samples) / runs)


def trimmed_cov(samples: Floats) -> float:
    """Standard deviation / mean, a share, without the slowest and the fastest 5 %."""
    cut = int(len(samples) * TRIM_RATIO)
    kept = np.sort(samples)[cut : len(samples) - cut]
    return float(kept.std() / kept.mean()) if len(kept) and kept.mean() else 0.0


def blocks_of(count: int, lengths: Sequence[int] = ()) -> NDArray[np.int64]:
    """The block that each of `count` samples belongs to: one per length given, else 30 runs of neighbours."""
    if lengths:
        return np.repeat(np.arange(len(lengths)), lengths)
    blocks = min(count, _BLOCKS)
    return np.arange(count) * blocks // max(count, 1)


def bootstrap_medians(
    samples: Floats,
    blocks: NDArray[np.int64],
    generator: np.random.Generator | None = None,
    draws: Floats | None = None,
) -> Floats:
    """Medians (nearest rank) of 1,000 resamples of whole blocks.

    Neighbouring samples resemble each other, as clocks and other load change more slowly than one run takes; drawing
    single samples would give an interval far too narrow. Source: non-overlapping blocks, Carlstein, Ann. Statist. 14
    (1986) 1171-1179.

    Args:
        samples: in order.
        blocks: (n,) block of each sample, 0 up to the number of blocks - 1.
        generator: draws the blocks.
        draws: (replicates, blocks) how often each block is drawn; instead of a generator, to pair two runs.
    """
    if draws is None:
        count = int(blocks.max()) + 1
        draws = draw_blocks(count, generator or np.random.default_rng(_SEED))
    order = np.argsort(samples, kind="stable")
    ordered, block_of_ordered = samples[order], blocks[order]
    medians = np.empty(len(draws))
    for row, times in enumerate(draws):
        at_or_below = np.cumsum(times[block_of_ordered])
        medians[row] = ordered[np.searchsorted(at_or_below, at_or_below[-1] / 2.0)]
    return medians


def draw_blocks(count: int, generator: np.random.Generator) -> Floats:
    """(1000, count): how often each block is in each resample of `count` blocks."""
    return generator.multinomial(count, np.full(count, 1.0 / count), size=_REPLICATES).astype(np.float64)


def interval(replicates: Floats) -> tuple[float, float]:
    """The middle 95 % of bootstrap replicates."""
    tail = (1.0 - CONFIDENCE) / 2.0 * 100.0
    low, high = np.percentile(replicates, [tail, 100.0 - tail])
    return float(low), float(high)


def _drifted(samples: Floats) -> bool:
    third = len(samples) // 3
    if third == 0:
        return False
    generator = np.random.default_rng(_SEED)
    first, last = samples[:third], samples[-third:]
    blocks = blocks_of(third)
    ratios = bootstrap_medians(last, blocks, generator) / bootstrap_medians(first, blocks, generator)
    low, high = interval(ratios)
    ratio = percentile(last, 50) / percentile(first, 50)
    slower = ratio > DRIFT_RATIO and low > DRIFT_RATIO
    faster = ratio < 1.0 / DRIFT_RATIO and high < 1.0 / DRIFT_RATIO
    return slower or faster
