"""Two builds, artifacts or profiles held against each other: latency with an interval, memory, size, metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.errors import DataError
from edgekit.profiling.compare import Comparison, compare, differences
from edgekit.schema.profile import Profile
from edgekit.store.sides import Entry, Side


@dataclass(frozen=True)
class LatencyPair:
    """One artifact in one runtime on one device, on both sides.

    Attributes:
        comparison: None: the two must not be compared, and `forbidding` says why.
        forbidding: what differs besides the artifact, so that times say nothing of it.
        noted: what also differs, which one should know.
    """

    artifact: str
    reference: Profile
    candidate: Profile
    reference_id: int | None
    candidate_id: int | None
    comparison: Comparison | None
    forbidding: tuple[str, ...]
    noted: tuple[str, ...]

    @property
    def not_judged(self) -> str:
        """Why no gate may be held against this pair; empty where one may."""
        if self.comparison is None:
            return f"not compared: {'; '.join(self.forbidding)}"
        for name, profile in (("A", self.reference), ("B", self.candidate)):
            if profile.stand_in:
                return f"{name} was measured on a stand-in"
            if not profile.valid:
                return f"{name} is INVALID: {', '.join(profile.reasons)}"
        return "; ".join(self.forbidding)

    def slower_than(self, ratio: float) -> bool:
        """Whether the whole interval of the change lies above `ratio`, a share, and may be judged."""
        return self.comparison is not None and not self.not_judged and self.comparison.change_interval[0] > ratio


@dataclass(frozen=True)
class SizePair:
    """One artifact of two builds. None: not on that side, or not measured.

    Attributes:
        metric: name of the metric; empty: neither has one.
        reference_value, candidate_value: on the test split, with the runtime that it was measured in.
        is_share: they lie in [0, 1].
    """

    artifact: str
    reference_bytes: int | None
    candidate_bytes: int | None
    metric: str
    reference_value: float | None
    candidate_value: float | None
    is_share: bool
    reference_runtime: str
    candidate_runtime: str


@dataclass(frozen=True)
class Compared:
    """All that two sides have in common, and `unpaired`: what only one of them has, a line each."""

    reference: Side
    candidate: Side
    latency: tuple[LatencyPair, ...]
    sizes: tuple[SizePair, ...]
    unpaired: tuple[str, ...]


def compare_sides(reference: Side, candidate: Side, *, across: bool = False) -> Compared:
    """Compare what two sides have in common: the same artifact in the same runtime on the same device.

    Of several profiles of one of these the newest valid one counts, or the newest, if none is valid. Two sides of one
    profile each are compared whatever they are called.

    Args:
        across: compare times although device, runtime or settings differ. What differs is told beside them either way.

    Raises:
        DataError: the sides have nothing in common.
    """
    first, second = _chosen(reference.entries), _chosen(candidate.entries)
    first, second = _aligned(first, second)
    shared = [key for key in first if key in second]
    sizes = _sizes(reference, candidate)
    if not shared and not sizes:
        raise DataError(
            f"nothing was measured of both: {_told(first)} of A, {_told(second)} of B",
            f"{reference.label}, {candidate.label}",
            "measure both on one device: `edgekit build --device NAME`",
        )
    unpaired = [f"only A has {_key(key)}" for key in first if key not in second]
    unpaired += [f"only B has {_key(key)}" for key in second if key not in first]
    pairs = tuple(_pair(first[key], second[key], across) for key in shared)
    return Compared(reference, candidate, pairs, sizes, tuple(unpaired))


_Key = tuple[str, str, str]


def _chosen(entries: Sequence[Entry]) -> dict[_Key, Entry]:
    """By artifact, device and runtime: the newest valid one, else the newest; shipped ones first."""
    best: dict[_Key, Entry] = {}
    for entry in sorted(entries, key=lambda one: (one.ships is not False, one.valid, one.measured_s, one.key or 0)):
        best[(entry.artifact, entry.device, entry.runtime)] = entry
    return dict(sorted(best.items()))


def _aligned(first: dict[_Key, Entry], second: dict[_Key, Entry]) -> tuple[dict[_Key, Entry], dict[_Key, Entry]]:
    """The same, paired by device and runtime alone where each side is of one artifact, or one profile by one."""
    if len(first) == len(second) == 1:
        key = next(iter(second))
        return {key: next(iter(first.values()))}, second
    names = {key[0] for key in second}
    if len({key[0] for key in first}) == len(names) == 1:
        name = next(iter(names))
        return {(name, *key[1:]): entry for key, entry in first.items()}, second
    return first, second


def _pair(first: Entry, second: Entry, across: bool) -> LatencyPair:
    reference, candidate = first.load(), second.load()
    found = differences(reference, candidate)
    compared = None if found.forbidding and not across else compare(reference, candidate)
    return LatencyPair(
        artifact=_either(first.artifact, second.artifact),
        reference=reference,
        candidate=candidate,
        reference_id=first.key,
        candidate_id=second.key,
        comparison=compared,
        forbidding=found.forbidding,
        noted=found.noted,
    )


def _sizes(reference: Side, candidate: Side) -> tuple[SizePair, ...]:
    if reference.build is None or candidate.build is None:
        return ()
    first = {row.path: row for row in reference.build.artifacts}
    second = {row.path: row for row in candidate.build.artifacts}
    rows = []
    for path in dict.fromkeys((*first, *second)):
        one, other = first.get(path), second.get(path)
        ours = one.metrics if one else {}
        theirs = other.metrics if other else {}
        for metric in sorted({*ours, *theirs}) or [""]:
            before, after = ours.get(metric), theirs.get(metric)
            rows.append(
                SizePair(
                    artifact=path,
                    reference_bytes=one.size_bytes if one else None,
                    candidate_bytes=other.size_bytes if other else None,
                    metric=metric,
                    reference_value=before.value if before else None,
                    candidate_value=after.value if after else None,
                    is_share=all(side.is_share for side in (before, after) if side),
                    reference_runtime=before.runtime if before else "",
                    candidate_runtime=after.runtime if after else "",
                )
            )
    return tuple(rows)


def _either(first: str, second: str) -> str:
    return first if first == second else f"{first}, {second}"


def _key(key: _Key) -> str:
    return f"{key[0]} on {key[1]} in {key[2]}"


def _told(side: dict[_Key, Entry]) -> str:
    return ", ".join(map(_key, side)) or "no profile"
