"""Honest speed: where a device shows that an artifact's float version is faster, that is what ships."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from edgekit.pipeline.artifacts import Exported
from edgekit.pipeline.measure import HALF, SAME, Measured
from edgekit.pipeline.progress import Reporter
from edgekit.schema.gates import Bound
from edgekit.schema.manifest import Skipped, SpeedRow
from edgekit.schema.profile import Profile

Ship = Literal["fastest", "quantised"]

_VERSIONS = {SAME: ("fp32", "float32"), HALF: ("fp16", "float16")}  # reference of a row -> precision, and in words


def keep_faster(
    exported: Sequence[Exported], measured: Measured, ship: Ship, size_bytes: Bound | None, reporter: Reporter
) -> tuple[tuple[Exported, ...], Measured]:
    """What ships, and what was measured of it, once slower integer artifacts have made way.

    An artifact gives its name to its fastest float version where that is faster on the device itself, beyond what
    chance would make of it, and within the bound on size. Where none is faster the integer artifact ships. A stand-in
    decides nothing, and an artifact whose weights alone were made smaller is not about speed.

    Args:
        exported: shipped artifacts and float versions of them.
        size_bytes: the gate, if there is one.
    """
    found = list(exported)
    for one in exported:
        if not one.planned.variant.ships or one.row.computes_in_float:
            continue
        rows = [row for row in measured.speed if row.artifact == one.row.path and row.reference in _VERSIONS]
        slower = [row for row in rows if row.verdict == "slower" and not row.stand_in]
        for row in rows:
            if row.verdict == "no significant change" and not row.stand_in and not slower:
                sizes = f"{one.row.size_bytes:,} bytes, not {_version(one, row, found).row.size_bytes:,}"
                reporter.note(f"{one.row.path}: {_said(one, row)}, so not faster; it ships with {sizes}")
        if not slower:
            continue
        row = min(slower, key=lambda row: row.speedup)
        other, words = _version(one, row, found), _VERSIONS[row.reference][1]
        if why := _why_not(other, words, ship, size_bytes):
            reporter.note(f"{one.row.path}: {_said(one, row)}; it ships because {why}")
            skipped = Skipped(
                what=f"the faster {words} version", where=one.row.path, reason=f"{_said(one, row)}; {why}"
            )
            measured = replace(measured, skipped=(*measured.skipped, skipped))
            continue
        reporter.note(f"{one.row.path}: {_said(one, row)}: {words} ships instead")
        reason = f"{_said(one, row)}: {words} ships instead; export.ship: quantised would ship it all the same"
        found[found.index(one)] = _as_shipped(other, one, reason)
        found.remove(other)
        measured = _instead(measured, one.row.path, other)
    return tuple(found), measured


def _said(one: Exported, row: SpeedRow) -> str:
    return (
        f"{one.row.precision} is {row.speedup:.2f} times as fast as {_VERSIONS[row.reference][1]} on {row.device} "
        f"[{row.low:.2f}, {row.high:.2f}]"
    )


def _version(one: Exported, row: SpeedRow, exported: Sequence[Exported]) -> Exported:
    """The float version that a row compares an artifact with."""
    mine = one.planned.variant
    for other in exported:
        its = other.planned.variant
        if (its.format, its.convention, its.of, its.ships) != (mine.format, mine.convention, "last", False):
            continue
        if its.precision == _VERSIONS[row.reference][0]:
            return other
    raise AssertionError(f"{one.row.path} was compared with a version that was not exported")


def _why_not(other: Exported, words: str, ship: Ship, size_bytes: Bound | None) -> str:
    """Why a faster float version does not ship; empty where it does."""
    if ship == "quantised":
        return "the recipe asks for it with export.ship"
    size = other.row.size_bytes
    if size_bytes is not None and size_bytes.at_most is not None and size > size_bytes.at_most:
        return f"{words} takes {size:,} bytes, above the gate size_bytes"
    return ""


def _as_shipped(other: Exported, one: Exported, reason: str) -> Exported:
    """A float version under the name of the artifact whose place it takes."""
    variant = replace(other.planned.variant, stem=one.planned.variant.stem, ships=True, not_int8=reason)
    return replace(
        other,
        planned=replace(other.planned, variant=variant),
        row=other.row.model_copy(update={"path": one.row.path}),
        file=other.row.path,
    )


def _instead(measured: Measured, name: str, other: Exported) -> Measured:
    """The measurements, told of what ships now: `name` is the float version `other`."""

    def of(profiles: Sequence[Profile], artifact: str) -> Profile:
        return next(profile for profile in profiles if profile.artifact == artifact)

    slower, faster = of(measured.profiles, name), of(measured.references, other.row.path)
    renamed = {name: f"{name} in integers"}
    if other.row.precision == "fp32":
        renamed[f"{name} in float32"] = name
    return replace(
        measured,
        profiles=tuple(
            faster.model_copy(update={"artifact": name}) if profile is slower else profile
            for profile in measured.profiles
        ),
        references=(*(profile for profile in measured.references if profile is not faster), slower),
        speed=tuple(
            row.model_copy(update={"artifact": renamed.get(row.artifact, row.artifact)}) for row in measured.speed
        ),
    )
