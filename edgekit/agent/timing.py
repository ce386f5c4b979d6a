"""Timing of a function: warm-up, then samples from a monotonic clock. No statistics here; the host summarises."""

from __future__ import annotations

import gc
import math
import time
from typing import Callable

Clock = Callable[[], int]


def runs_needed(percentile: float) -> int:
    """Runs that a percentile in (0, 100) needs: ten samples beyond it, n >= 10 / (1 - p).

    p99 needs 1,000 runs and p90 a hundred, so p99 from 20 runs is refused.
    """
    return math.ceil(round(1000.0 / (100.0 - percentile), 6))  # rounded: 1000 / (100 - 99.9) is a hair above 10,000


def warm_up(
    run: Callable[[], object], least_ms: float, least_runs: int, clock: Clock = time.perf_counter_ns
) -> list[float]:
    """Call `run` until both `least_ms` have passed and `least_runs` were made; the durations in ms.

    They say how long the timed part will take. They are never samples.
    """
    durations_ms: list[float] = []
    start = clock()
    while len(durations_ms) < least_runs or clock() - start < least_ms * 1e6:
        before = clock()
        run()
        durations_ms.append((clock() - before) / 1e6)
    return durations_ms


def time_runs(
    run: Callable[[], object], duration_s: float, runs: int, clock: Clock = time.perf_counter_ns
) -> list[float]:
    """Call `run` back to back until both `duration_s` have passed and `runs` were made; every duration in ms, in order.

    The garbage collector rests meanwhile, so that its pauses are not taken for the artifact's.
    """
    samples_ns: list[int] = []
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = clock()
        while True:
            before = clock()
            run()
            after = clock()
            samples_ns.append(after - before)
            if len(samples_ns) >= runs and after - start >= duration_s * 1e9:
                break
    finally:
        if collecting:
            gc.enable()
    return [ns / 1e6 for ns in samples_ns]
