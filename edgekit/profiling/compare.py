"""Is one artifact faster than another? An interval decides, and "no significant change" is an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgekit.profiling.statistics import blocks_of, bootstrap_medians, draw_blocks, interval
from edgekit.schema.profile import Profile

NEGLIGIBLE_RATIO = 1.02
_SEED = 20240301


@dataclass(frozen=True)
class Comparison:
    """Two profiles compared.

    Attributes:
        speedup: p50 of the reference / p50 of the candidate.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
        verdict: faster or slower only where the whole interval lies beyond 2 % of no change.
        stand_in: at least one of the two was measured on other hardware than the target's.
        interleaved: both were taken in alternating rounds of one job, so that drift of the machine cancels.
    """

    speedup: float
    low: float
    high: float
    verdict: Literal["faster", "slower", "no significant change"]
    stand_in: bool
    interleaved: bool


def compare(reference: Profile, candidate: Profile) -> Comparison:
    """How many times faster `candidate` is than `reference`, with a 95 % interval.

    Profiles of one interleaved job are compared by resampling their rounds in pairs; others by resampling blocks of
    each on its own, which cannot see how much the machine changed between the two: interleave where the answer matters.
    """
    first, second = np.asarray(reference.samples_ms), np.asarray(candidate.samples_ms)
    generator = np.random.default_rng(_SEED)
    interleaved = _interleaved(reference, candidate)
    if interleaved:
        rounds, others = reference.conditions.extra["rounds"], candidate.conditions.extra["rounds"]
        draws = draw_blocks(len(rounds), generator)
        replicates = bootstrap_medians(first, blocks_of(len(first), rounds), draws=draws) / bootstrap_medians(
            second, blocks_of(len(second), others), draws=draws
        )
    else:
        replicates = bootstrap_medians(first, blocks_of(len(first)), generator) / bootstrap_medians(
            second, blocks_of(len(second)), generator
        )
    low, high = interval(replicates)
    return Comparison(
        speedup=reference.summary.p50_ms / candidate.summary.p50_ms,
        low=low,
        high=high,
        verdict=_verdict(low, high),
        stand_in=reference.stand_in or candidate.stand_in,
        interleaved=interleaved,
    )


def _verdict(low: float, high: float) -> Literal["faster", "slower", "no significant change"]:
    if low > NEGLIGIBLE_RATIO:
        return "faster"
    if high < 1.0 / NEGLIGIBLE_RATIO:
        return "slower"
    return "no significant change"


def _interleaved(reference: Profile, candidate: Profile) -> bool:
    first, second = reference.conditions.extra, candidate.conditions.extra
    together = first.get("interleaved")
    return bool(together) and together == second.get("interleaved") and reference.measured_at == candidate.measured_at
