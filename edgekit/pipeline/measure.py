"""Latency on a named device: every shipped artifact, beside the float version of the same network in the same run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgekit.errors import DeviceError
from edgekit.pipeline.artifacts import Exported
from edgekit.pipeline.choose import is_stand_in
from edgekit.pipeline.progress import Reporter
from edgekit.profiling.compare import compare
from edgekit.profiling.jobs import profile, profile_interleaved
from edgekit.schema.device import Device
from edgekit.schema.manifest import Skipped, SpeedRow
from edgekit.schema.profile import MeasureSettings, Profile
from edgekit.schema.target import Target

ProfileFunction = Callable[..., Profile]
InterleavedFunction = Callable[..., Sequence[Profile]]


@dataclass(frozen=True)
class Measured:
    """What a device told.

    Attributes:
        profiles: of shipped artifacts.
        references: of their float versions, which are not shipped.
        failed: whether something that should have been measured was not.
    """

    profiles: tuple[Profile, ...] = ()
    references: tuple[Profile, ...] = ()
    speed: tuple[SpeedRow, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    failed: bool = False


def measure_on(
    device: Device,
    target: Target,
    exported: Sequence[Exported],
    macs_ratio: float,
    batch: int,
    reporter: Reporter,
    *,
    profile: ProfileFunction = profile,
    profile_interleaved: InterleavedFunction = profile_interleaved,
) -> Measured:
    """Measure every shipped artifact on a device.

    An artifact that cannot be measured there leaves a reason and does not stop the others.

    Args:
        exported: shipped artifacts and float versions of them.
        macs_ratio: MACs left / MACs of the float reference.
        batch: that the artifacts were exported with.
    """
    stand_in_for = target.name if is_stand_in(device.target, device.stand_in_for, target) else None
    settings = MeasureSettings(threads=target.threads, batch=batch)
    profiles: list[Profile] = []
    references: list[Profile] = []
    speed: list[SpeedRow] = []
    skipped: list[Skipped] = []
    failed = False
    for one in (item for item in exported if item.planned.variant.ships):
        variant = one.planned.variant
        if variant.format == "tensorrt":
            reason = "its engine is built on the board: engine.json holds the command"
            skipped.append(Skipped(what="latency", where=f"{one.row.path} on {device.name}", reason=reason))
            failed = failed or stand_in_for is None
            continue
        runtime = variant.local_runtime if stand_in_for else variant.runtime
        reference = _float_version(one, exported)
        try:
            with reporter.task(f"measuring {one.row.path} on {device.name}"):
                if reference is None:
                    found: Sequence[Profile] = (
                        profile(device, one.path, one.row, runtime, settings, stand_in_for=stand_in_for),
                    )
                else:
                    pair = [(reference.path, reference.row, runtime), (one.path, one.row, runtime)]
                    found = profile_interleaved(device, pair, settings, stand_in_for=stand_in_for)
        except DeviceError as err:
            reason = f"{err.what}; {err.fix}"
            skipped.append(Skipped(what="latency", where=f"{one.row.path} on {device.name}", reason=reason))
            failed = True
            continue
        profiles.append(found[-1])
        if reference is not None:
            references.append(found[0])
            speed.append(_speed(one, found[0], found[-1], macs_ratio))
        reporter.note(_told(one.row.path, found[-1], speed[-1] if reference is not None else None))
    return Measured(tuple(profiles), tuple(references), tuple(speed), tuple(skipped), failed)


def _float_version(one: Exported, exported: Sequence[Exported]) -> Exported | None:
    variant = one.planned.variant
    for other in exported:
        beside = other.planned.variant
        if not beside.ships and (beside.format, beside.convention) == (variant.format, variant.convention):
            return other
    return None


def _speed(one: Exported, reference: Profile, candidate: Profile, macs_ratio: float) -> SpeedRow:
    found = compare(reference, candidate)
    return SpeedRow(
        artifact=one.row.path,
        reference=f"the same network in float32, {one.row.format}",
        device=candidate.device,
        stand_in=found.stand_in,
        speedup=found.speedup,
        low=found.low,
        high=found.high,
        macs_ratio=macs_ratio,
        verdict=found.verdict,
    )


def _told(path: str, profile: Profile, speed: SpeedRow | None) -> str:
    label = f" (stand-in for {profile.stand_in_for})" if profile.stand_in else ""
    line = f"{path} on {profile.device}{label}: p50 {profile.summary.p50_ms:.3f} ms"
    if speed is not None:
        line += f", {speed.speedup:.2f}x the float version's speed [{speed.low:.2f}, {speed.high:.2f}]: {speed.verdict}"
    return line
