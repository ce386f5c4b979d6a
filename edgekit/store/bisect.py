"""Which build made it slower: the stored history searched, nothing built or measured again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edgekit.errors import DataError
from edgekit.profiling.compare import NEGLIGIBLE_RATIO, Against, differences
from edgekit.schema.profile import Profile
from edgekit.store.builds import Build, read_build_lines, read_builds
from edgekit.store.history import ProfileLine, Wanted, read_history
from edgekit.store.profiles import ProfileStore
from edgekit.store.sides import Side

Quantity = Literal["p50_ms", "p99_ms", "peak_rss_bytes"]
State = Literal["good", "bad", "unclear", "not measured"]
_PERCENTILES = {"p50_ms": 50.0, "p99_ms": 99.0}


@dataclass(frozen=True)
class Wished:
    """Which of a build's profiles. None: where only one kind was measured, that."""

    device: str | None = None
    runtime: str | None = None
    artifact: str | None = None


@dataclass(frozen=True)
class Point:
    """One build of the history.

    Attributes:
        digest: content digest.
        made_s: when it was first made, in seconds since 1970.
        profile: number of the profile that stands for it; None: none does.
        value: of the quantity that is asked for.
        state: against both ends. good: not significantly worse than the good end, and significantly better than the bad
            one. bad: significantly worse than the good end. unclear: neither.
        change: value / that of the good end - 1; None: no value.
        low, high: its 95 % interval; None where there is none (memory is read once).
        reason: why unclear or not measured.
    """

    digest: str
    git_commit: str | None
    made_s: float
    profile: int | None = None
    value: float | None = None
    state: State = "not measured"
    change: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Bisection:
    """What was found.

    Attributes:
        points: from the good end to the bad one.
        between: profiles of builds between the two ends.
        first_bad: the earliest build that is worse; None: that cannot be said.
        last_good: the latest good one before it.
        conclusive: whether `first_bad` follows `last_good` with nothing unknown between, and all before it are good
            and all after it bad.
        reason: why not conclusive.
    """

    recipe: str
    target: str
    artifact: str
    device: str
    runtime: str
    of: Quantity
    points: tuple[Point, ...]
    between: int
    first_bad: Point | None
    last_good: Point | None
    conclusive: bool
    reason: str = ""


def bisect(
    store: ProfileStore, good: Side, bad: Side, of: Quantity = "p50_ms", wished: Wished | None = None
) -> Bisection:
    """Find the first build that is significantly worse than `good`, among those made from `good` to `bad`.

    Every build between is compared with both ends, as its samples are at hand; a profile that is INVALID, or was
    measured on another machine or with other settings than the good end's, is no measurement. A stand-in's counts where
    all are of the same one.

    Raises:
        DataError: an end is no build, the two are not of one recipe and target, the good one was not made first, or
            what was measured of them leaves open which device, runtime or artifact is meant.
        StoreError: the database cannot be read.
    """
    recipe, target = _line_of(good, bad)
    artifact, device, runtime = _kind(store, good, bad, wished or Wished())
    wanted = Wanted(recipe=recipe, target=target, artifact=artifact, device=device, runtime=runtime, shipped_only=True)
    profiles = [line for line in read_history(store.database, wanted) if line.artifact == artifact]
    builds = _builds(store, good, bad, recipe, target)
    points = [Point(build.digest, build.git_commit, build.made_s) for build in builds]
    reader = _Reader(store, of, profiles, {build.digest: build.sha256s for build in builds})
    start = reader.best(points[0].digest)
    found = Bisection(
        recipe=recipe,
        target=target,
        artifact=artifact,
        device=device,
        runtime=runtime,
        of=of,
        points=tuple(points),
        between=len({line.id for point in points[1:-1] for line in reader.lines_of(point.digest)}),
        first_bad=None,
        last_good=None,
        conclusive=False,
    )
    if isinstance(start, str):
        return replace(found, points=tuple(map(reader.look, points)), reason=f"the good end: {start}")
    end = reader.best(points[-1].digest, start[1])
    if isinstance(end, str):
        return replace(found, points=tuple(map(reader.look, points)), reason=f"the bad end: {end}")
    judged = [reader.judge(point, start, end) for point in points]
    judged[0] = replace(judged[0], state="good", reason="")  # by definition
    return _conclude(replace(found, points=tuple(judged)))


def _conclude(found: Bisection) -> Bisection:
    points = found.points
    if points[-1].state != "bad":
        return replace(found, reason="no significant change between the two ends")
    bad = next(i for i, point in enumerate(points) if point.state == "bad")
    good = max(i for i in range(bad) if points[i].state == "good")
    unknown = points[good + 1 : bad]
    better = [point for point in points[bad:] if point.state == "good"]
    reasons = []
    if unknown:
        kinds = ", ".join(sorted({point.reason for point in unknown}))
        reasons.append(f"{len(unknown)} between the last good one and it cannot be judged: {kinds}")
    if better:
        reasons.append(f"{len(better)} after it are good again, the first is build {better[0].digest[:12]}")
    return replace(
        found,
        first_bad=points[bad],
        last_good=points[good],
        conclusive=not reasons,
        reason="; ".join(reasons),
    )


class _Reader:
    """The profile that stands for each build, and how it compares with the ends."""

    def __init__(
        self, store: ProfileStore, of: Quantity, lines: Sequence[ProfileLine], sha256s: Mapping[str, tuple[str, ...]]
    ) -> None:
        self._store, self._of = store, of
        self._lines = lines  # newest first
        self._sha256s = sha256s  # of its artifacts, by digest of a build
        self._against: dict[int, Against] = {}  # the two ends, by number of their profiles

    def lines_of(self, digest: str) -> list[ProfileLine]:
        """Profiles of a build, newest first; as in `read_build_lines`, else those of the same file in another one."""
        own = [line for line in self._lines if line.build == digest]
        return own or [line for line in self._lines if line.artifact_sha256 in self._sha256s[digest]]

    def best(self, digest: str, like: Profile | None = None) -> tuple[ProfileLine, Profile] | str:
        """The newest believable profile of a build that was measured as `like` was, or why there is none."""
        mine = self.lines_of(digest)
        reasons = ["not measured"]
        for line in mine:
            wrong = [reason for reason in line.reasons if reason != "stand-in"]
            if wrong:
                reasons.append(f"INVALID: {', '.join(wrong)}")
            elif getattr(line, self._of) is None:
                reasons.append(f"{self._of} could not be read")
            else:
                profile = self._store.get(line.id)
                forbidding = () if like is None else differences(like, profile).forbidding
                if not forbidding:
                    return line, profile
                reasons.append(f"measured otherwise: {'; '.join(forbidding)}")
        return reasons[min(1, len(reasons) - 1)]  # of the newest

    def look(self, point: Point) -> Point:
        """The point with its value, where an end that it could be held against is missing."""
        found = self.best(point.digest)
        if isinstance(found, str):
            return replace(point, reason=found if found != point.state else "")
        value = float(getattr(found[0], self._of))
        return replace(point, profile=found[0].id, value=value, state="unclear", reason="an end is missing")

    def judge(self, point: Point, good: tuple[ProfileLine, Profile], bad: tuple[ProfileLine, Profile]) -> Point:
        """The point with what is known of its build."""
        found = self.best(point.digest, good[1])
        if isinstance(found, str):
            return replace(point, reason=found)
        line, _ = found
        value = float(getattr(line, self._of))
        known = replace(point, profile=line.id, value=value)
        change, low, high = self._change(good, found)
        known = replace(known, change=change, low=low, high=high)
        margin = NEGLIGIBLE_RATIO - 1.0
        if (change if low is None else low) > margin:
            return replace(known, state="bad")
        against_bad, _, upper = self._change(bad, found)
        if (against_bad if upper is None else upper) < 1.0 / NEGLIGIBLE_RATIO - 1.0:
            return replace(known, state="good")
        return replace(known, state="unclear", reason="its interval overlaps those of both ends")

    def _change(
        self, reference: tuple[ProfileLine, Profile], candidate: tuple[ProfileLine, Profile]
    ) -> tuple[float, float | None, float | None]:
        if self._of not in _PERCENTILES:
            return getattr(candidate[0], self._of) / getattr(reference[0], self._of) - 1.0, None, None
        if reference[0].id not in self._against:
            self._against[reference[0].id] = Against(reference[1], _PERCENTILES[self._of])
        compared = self._against[reference[0].id].compare(candidate[1])
        return compared.change, *compared.change_interval


def _line_of(good: Side, bad: Side) -> tuple[str, str]:
    for side in (good, bad):
        if side.build is None:
            raise DataError(f"{side.label} is no build", side.label, "name a build, a release, a commit or a bundle")
    assert good.build is not None and bad.build is not None  # noqa: PT018
    first, last = (good.build.recipe, good.build.target), (bad.build.recipe, bad.build.target)
    if first != last:
        raise DataError(
            f"one is of {first[0]} for {first[1]}, the other of {last[0]} for {last[1]}",
            f"{good.label}, {bad.label}",
            "name two builds of one recipe and target",
        )
    return first


def _kind(store: ProfileStore, good: Side, bad: Side, wished: Wished) -> tuple[str, str, str]:
    kinds: list[set[tuple[str, str, str]]] = []
    for side in (good, bad):
        assert side.build is not None
        devices = {entry.device for entry in side.entries}
        lines = read_build_lines(store.database, side.build.digest, Wanted(shipped_only=True))
        kinds.append(
            {
                (line.artifact, line.device, line.runtime)
                for line in lines
                if line.device in devices
                and wished.device in (None, line.device)
                and wished.runtime in (None, line.runtime)
                and wished.artifact in (None, line.artifact)
            }
        )
    shared = sorted(kinds[0] & kinds[1])
    if len(shared) != 1:
        several = "; ".join(" ".join(kind) for kind in shared)
        raise DataError(
            f"several were measured of both ends: {several}" if shared else "nothing of the kind was measured of both",
            f"{good.label}, {bad.label}",
            "choose with --artifact, --device, --runtime" if shared else "see `edgekit history`",
        )
    return shared[0]


def _builds(store: ProfileStore, good: Side, bad: Side, recipe: str, target: str) -> Sequence[Build]:
    assert good.build is not None and bad.build is not None  # noqa: PT018
    builds = read_builds(store.database, recipe=recipe, target=target)
    digests = [build.digest for build in builds]
    for side, build in ((good, good.build), (bad, bad.build)):
        if build.digest not in digests:
            raise DataError(
                f"{side.label} was not built with this database", store.database.where, "`edgekit history` lists builds"
            )
    start, end = digests.index(good.build.digest), digests.index(bad.build.digest)
    if start >= end:
        raise DataError(
            "the good build was not made before the bad one", f"{good.label}, {bad.label}", "exchange --good and --bad"
        )
    return builds[start : end + 1]
