"""Honest speed: where a device shows that an artifact's float version is faster, that is what ships."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from edgekit.pipeline.artifacts import Exported
from edgekit.pipeline.measure import SAME, Measured
from edgekit.pipeline.progress import Reporter
from edgekit.schema.gates import Bound
from edgekit.schema.manifest import Skipped, SpeedRow
from edgekit.schema.profile import Profile


def keep_faster(
    exported: Sequence[Exported],
    measured: Measured,
    ship: Literal["fastest", "quantised"],
    size_bytes: Bound | None,
    reporter: Reporter,
) -> tuple[tuple[Exported, ...], Measured]:
    """What ships, and what was measured of it, once slower integer artifacts have made way.

    An artifact gives its name to its float version where that is faster on the device itself, beyond what chance would
    make of it, and within the bound on size. Where neither is faster the integer artifact ships: it is the smaller one.
    A stand-in decides nothing.

    Args:
        exported: shipped artifacts and float versions of them.
        size_bytes: the gate, if there is one.
    """
    found = list(exported)
    for row in measured.speed:
        pair = _pair(row, found)
        if pair is None or row.stand_in or row.verdict == "faster":
            continue
        quantised, in_float = pair
        said = (
            f"{quantised.row.precision} is {row.speedup:.2f} times as fast as float32 on {row.device} "
            f"[{row.low:.2f}, {row.high:.2f}]"
        )
        name = quantised.row.path
        if row.verdict != "slower":
            reporter.note(f"{name}: {said}, so not faster; it ships because it is smaller")
        elif why := _why_not(in_float, ship, size_bytes):
            reporter.note(f"{name}: {said}; it ships because {why}")
            skipped = Skipped(what="the faster float32 version", where=name, reason=f"{said}; {why}")
            measured = replace(measured, skipped=(*measured.skipped, skipped))
        else:
            reporter.note(f"{name}: {said}: float32 ships instead")
            reason = f"{said}: float32 ships instead; export.ship: quantised would ship it all the same"
            found[found.index(quantised)] = _as_shipped(in_float, quantised, reason)
            found.remove(in_float)
            measured = _instead(measured, name, in_float.row.path)
    return tuple(found), measured


def _pair(row: SpeedRow, exported: Sequence[Exported]) -> tuple[Exported, Exported] | None:
    """The integer artifact that a row is about and its float version; None for a row of something else."""
    if row.reference != SAME:
        return None
    one = next((e for e in exported if e.planned.variant.ships and e.row.path == row.artifact), None)
    if one is None or one.row.precision == "fp32":
        return None
    mine = one.planned.variant
    for other in exported:
        its = other.planned.variant
        if not its.ships and its.of == "last" and (its.format, its.convention) == (mine.format, mine.convention):
            return one, other
    return None


def _why_not(in_float: Exported, ship: Literal["fastest", "quantised"], size_bytes: Bound | None) -> str:
    """Why a faster float version does not ship; empty where it does."""
    if ship == "quantised":
        return "the recipe asks for it with export.ship"
    size = in_float.row.size_bytes
    if size_bytes is not None and size_bytes.at_most is not None and size > size_bytes.at_most:
        return f"float32 takes {size:,} bytes, above the gate size_bytes"
    return ""


def _as_shipped(in_float: Exported, quantised: Exported, reason: str) -> Exported:
    """The float version under the name of the artifact whose place it takes."""
    variant = replace(in_float.planned.variant, stem=quantised.planned.variant.stem, ships=True, not_int8=reason)
    return replace(
        in_float,
        planned=replace(in_float.planned, variant=variant),
        row=in_float.row.model_copy(update={"path": quantised.row.path}),
        file=in_float.row.path,
    )


def _instead(measured: Measured, name: str, float_name: str) -> Measured:
    """The measurements, told of what ships now: `name` is the float version."""

    def of(profiles: Sequence[Profile], artifact: str) -> Profile:
        return next(profile for profile in profiles if profile.artifact == artifact)

    slower, faster = of(measured.profiles, name), of(measured.references, float_name)
    renamed = {name: f"{name} in integers", f"{name} in float32": name}
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
