"""Is one artifact faster than another? An interval decides, and "no significant change" is an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.profiling.quantiles import bootstrap_percentiles
from edgekit.profiling.statistics import Floats, blocks_of, draw_blocks, interval, percentile
from edgekit.schema.profile import MeasureSettings, Profile

NEGLIGIBLE_RATIO = 1.02
_SEED = 20240301
# How long and how often one measures moves an interval's width, not its place.
_EXTENT = {"warmup_ms", "warmup_runs", "duration_s", "min_runs", "percentile", "idle_s", "layers"}


@dataclass(frozen=True)
class Comparison:
    """Two profiles compared.

    Attributes:
        speedup: p50, or another percentile, of the reference / the same of the candidate.
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

    @property
    def change(self) -> float:
        """Time of the candidate / that of the reference - 1: 0.05 is 5 % slower."""
        return 1.0 / self.speedup - 1.0

    @property
    def change_interval(self) -> tuple[float, float]:
        """The 95 % interval of `change`."""
        return 1.0 / self.high - 1.0, 1.0 / self.low - 1.0


@dataclass(frozen=True)
class Differences:
    """In what two measurements differ besides the artifact, a line each: `device: bench, other`.

    Attributes:
        forbidding: their times must not be compared as if the artifact alone had changed.
        noted: one should know it.
    """

    forbidding: tuple[str, ...]
    noted: tuple[str, ...]


def compare(reference: Profile, candidate: Profile, p: float = 50.0) -> Comparison:
    """How many times faster `candidate` is than `reference`, with a 95 % interval.

    Profiles of one interleaved job are compared by resampling their rounds in pairs; others by resampling blocks of
    each on its own, which cannot see how much the machine changed between the two: interleave where the answer matters.

    Args:
        p: the percentile that is compared, in (0, 100).
    """
    return Against(reference, p).compare(candidate)


class Against:
    """A profile that several are compared with: `compare`, its own resamples drawn once.

    Args:
        reference: what the others are held against.
        p: the percentile that is compared, in (0, 100).
    """

    def __init__(self, reference: Profile, p: float = 50.0) -> None:
        self._reference, self._p = reference, p
        self._samples = np.asarray(reference.samples_ms)
        self._blocks = blocks_of(len(self._samples))

    def compare(self, candidate: Profile) -> Comparison:
        """As the function `compare` does."""
        reference, samples = self._reference, np.asarray(candidate.samples_ms)
        interleaved = _interleaved(reference, candidate)
        if interleaved:
            rounds, others = reference.conditions.extra["rounds"], candidate.conditions.extra["rounds"]
            (draws,) = _draws(len(rounds))
            slow = bootstrap_percentiles(self._samples, blocks_of(len(self._samples), rounds), draws, self._p)
            fast = bootstrap_percentiles(samples, blocks_of(len(samples), others), draws, self._p)
        else:
            blocks = blocks_of(len(samples))
            slow = self._alone
            fast = bootstrap_percentiles(samples, blocks, _draws(_count(self._blocks), _count(blocks))[1], self._p)
        low, high = interval(slow / fast)
        return Comparison(
            speedup=percentile(self._samples, self._p) / percentile(samples, self._p),
            low=low,
            high=high,
            verdict=_verdict(low, high),
            stand_in=reference.stand_in or candidate.stand_in,
            interleaved=interleaved,
        )

    @cached_property
    def _alone(self) -> Floats:
        return bootstrap_percentiles(self._samples, self._blocks, _draws(_count(self._blocks))[0], self._p)


def _count(blocks: NDArray[np.int64]) -> int:
    return int(blocks.max()) + 1


def differences(reference: Profile, candidate: Profile) -> Differences:
    """In what two measurements differ that is not the artifact itself. What is not known of either is no difference."""
    first, second = reference.conditions, candidate.conditions
    forbidding = [
        ("device", reference.device, candidate.device),
        ("machine", first.extra.get("identity"), second.extra.get("identity")),
        ("stand-in for", reference.stand_in_for or "nothing", candidate.stand_in_for or "nothing"),
        ("runtime", reference.runtime, candidate.runtime),
        ("power mode", first.power_mode, second.power_mode),
    ]
    noted = [
        (f"{reference.runtime} version", reference.runtime_version, candidate.runtime_version),
        ("agent", reference.agent_version, candidate.agent_version),
        ("processor", first.cpu or None, second.cpu or None),
        ("governor", first.governor, second.governor),
        ("clocks pinned", first.clocks_pinned, second.clocks_pinned),
    ]
    for name in MeasureSettings.model_fields:
        # as text: a setting that is None is known, and it is no other
        row = (name, str(getattr(reference.settings, name)), str(getattr(candidate.settings, name)))
        (noted if name in _EXTENT else forbidding).append(row)
    return Differences(_unequal(forbidding), _unequal(noted))


@lru_cache(maxsize=4)
def _draws(*counts: int) -> tuple[Floats, ...]:
    """How often each of so many blocks is drawn, one after the other from one seed: the same for every comparison."""
    generator = np.random.default_rng(_SEED)
    drawn = tuple(draw_blocks(count, generator) for count in counts)
    for array in drawn:
        array.setflags(write=False)
    return drawn


def _unequal(rows: Sequence[tuple[str, Any, Any]]) -> tuple[str, ...]:
    return tuple(f"{name}: {one}, {other}" for name, one, other in rows if one != other and None not in (one, other))


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
