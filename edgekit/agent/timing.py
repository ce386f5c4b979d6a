"""Timing of a function: warm-up, then samples from a monotonic clock. No statistics here; the host summarises."""

from __future__ import annotations

import gc
import math
import time
from dataclasses import dataclass
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


@dataclass
class Frames:
    """What became of the frames of a camera, or of another source that gives one a period.

    Attributes:
        due: frames that arrived.
        missed: whose answer came after the next frame had arrived, dropped ones among them.
        dropped: that were never looked at, because a newer one was there when there was time again.
    """

    due: int = 0
    missed: int = 0
    dropped: int = 0


def time_frames(
    run: Callable[[], object],
    fps: float,
    duration_s: float,
    runs: int,
    clock: Clock = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[list[float], Frames]:
    """Call `run` for one frame a period, idle in between; every duration in ms, in order, and the fate of the frames.

    Frame i arrives i periods after the start and is due before the next one. Where a run takes longer, the newest frame
    that has arrived is next, as a camera gives it, and those in between are dropped. A sample is the run alone: how
    late the operating system woke us counts towards the deadline and not towards the sample.
    """
    period_ns = 1e9 / fps
    samples_ns: list[int] = []
    frames = Frames()
    collecting = gc.isenabled()
    gc.disable()
    try:
        start, frame = clock(), 0
        while True:
            wait_ns = start + frame * period_ns - clock()
            if wait_ns > 0:
                sleep(wait_ns / 1e9)
            before = clock()
            run()
            after = clock()
            samples_ns.append(after - before)
            arrived = int((after - start) // period_ns)  # the newest frame that is there by now
            following = max(frame + 1, arrived)
            frames.due += following - frame
            frames.dropped += following - frame - 1
            frames.missed += following - frame - 1 + (after - start > (frame + 1) * period_ns)
            frame = following
            if len(samples_ns) >= runs and after - start >= duration_s * 1e9:
                break
    finally:
        if collecting:
            gc.enable()
    return [ns / 1e6 for ns in samples_ns], frames
