"""Latency on a named device: every shipped artifact, beside float versions of the network in the same run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from edgekit.devices.session import AgentSession
from edgekit.errors import DeviceError
from edgekit.pipeline.artifacts import Exported
from edgekit.pipeline.board import shown
from edgekit.pipeline.engines import engine_precision
from edgekit.pipeline.progress import Reporter
from edgekit.pipeline.stored import Stored, ago, nothing_stored
from edgekit.profiling.compare import compare
from edgekit.profiling.engines import EngineBuilt, EngineOptions
from edgekit.profiling.jobs import profile, profile_interleaved
from edgekit.profiling.trtexec_run import profile_by_trtexec
from edgekit.schema.manifest import Skipped, SpeedRow
from edgekit.schema.profile import MeasureSettings, Profile
from edgekit.schema.target import Target

ProfileFunction = Callable[..., Profile]
InterleavedFunction = Callable[..., Sequence[Profile]]

_BEFORE = "the network before compression in float32"
LOWER_PERCENTILE = 90.0  # of a board that is too slow for the 1,000 runs of p99
SAME, HALF = "the same network in float32", "the same network in float16"


@dataclass(frozen=True)
class Measured:
    """What a device told.

    Attributes:
        profiles: of shipped artifacts.
        references: of float versions, which are not shipped.
        failed: whether something that should have been measured was not.
    """

    profiles: tuple[Profile, ...] = ()
    references: tuple[Profile, ...] = ()
    speed: tuple[SpeedRow, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    failed: bool = False


def measure_on(
    session: AgentSession,
    instead_of: str | None,
    target: Target,
    exported: Sequence[Exported],
    macs_ratio: float,
    batch: int,
    reporter: Reporter,
    engines: Mapping[str, EngineBuilt] = MappingProxyType({}),
    stored: Stored = nothing_stored,
    *,
    profile: ProfileFunction = profile,
    profile_interleaved: InterleavedFunction = profile_interleaved,
    profile_by_trtexec: ProfileFunction = profile_by_trtexec,
) -> Measured:
    """Measure every shipped artifact on a device.

    An artifact that cannot be measured there leaves a reason and does not stop the others.

    Args:
        session: on the device.
        instead_of: target that the device only stands in for; None: it is of the target.
        exported: shipped artifacts and float versions of them.
        macs_ratio: MACs left / MACs of the float reference.
        batch: that the artifacts were exported with.
        engines: of TensorRT artifacts, by their paths; one without is left out.
        stored: what need not be measured again.
    """
    device = session.device
    settings = MeasureSettings(threads=target.threads, batch=batch)
    profiles: list[Profile] = []
    references: list[Profile] = []
    speed: list[SpeedRow] = []
    skipped: list[Skipped] = []
    failed = False
    for one in (item for item in exported if item.planned.variant.ships):
        variant = one.planned.variant
        engine = engines.get(one.row.path)
        by_trtexec = variant.runtime == "trtexec" and instead_of is None
        if variant.format == "tensorrt" and engine is None and not by_trtexec:
            continue  # whoever builds engines has said why
        runtime = variant.local_runtime if instead_of and device.transport == "local" else variant.runtime
        beside, age = _float_versions(one, exported), ""
        try:
            with reporter.task(f"measuring {one.row.path} on {device.name}") as update:
                found: Sequence[Profile]
                how: dict[str, Any] = {
                    "stand_in_for": instead_of,
                    "lower_percentile": LOWER_PERCENTILE,
                    "session": session,
                    "on_progress": shown(update),
                }
                if by_trtexec:
                    wishes = EngineOptions(engine_precision(variant, target), sparse_weights=one.row.two_of_four > 0)
                    found = [profile_by_trtexec(device, session.transport, one.path, one.row, wishes, settings)]
                elif engine is not None:
                    how["options"] = engine.runtime_options
                    taken = profile(device, engine.path, engine.row(one.row), runtime, settings, **how)
                    found = [taken.model_copy(update={"artifact": one.row.path})]
                else:
                    everything = [(item.path, item.row, runtime) for item in (*beside.values(), one)]
                    found = stored(everything, settings) or ()
                    age = f", measured {ago(found[0].measured_at)}" if found else ""
                    if not found and beside:
                        found = profile_interleaved(device, everything, settings, **how)
                    elif not found:
                        found = [profile(device, one.path, one.row, runtime, settings, **how)]
        except DeviceError as err:
            reason = f"{err.what}; {err.fix}"
            skipped.append(Skipped(what="latency", where=f"{one.row.path} on {device.name}", reason=reason))
            failed = True
            continue
        if (percentile := found[-1].settings.percentile) < settings.percentile:
            reason = f"its runs would take over 15 minutes there; measured up to p{percentile:g}"
            skipped.append(
                Skipped(what=f"p{settings.percentile:g}", where=f"{one.row.path} on {device.name}", reason=reason)
            )
        profiles.append(found[-1])
        references += found[:-1]
        rows = _speed(one, dict(zip(beside, found, strict=False)), found[-1], macs_ratio)
        speed += rows
        reporter.note(_told(one.row.path, found[-1], rows) + age)
    return Measured(tuple(profiles), tuple(references), tuple(speed), tuple(skipped), failed)


def _float_versions(one: Exported, exported: Sequence[Exported]) -> dict[str, Exported]:
    """Float versions of an artifact, as far as there are any: of the reference network, and of the last in both."""
    variant = one.planned.variant
    found = {
        "half" if other.planned.variant.precision == "fp16" else other.planned.variant.of: other
        for other in exported
        if not other.planned.variant.ships
        and (other.planned.variant.format, other.planned.variant.convention) == (variant.format, variant.convention)
    }
    return {of: found[of] for of in ("reference", "last", "half") if of in found}


def _speed(one: Exported, beside: Mapping[str, Profile], profile: Profile, macs_ratio: float) -> list[SpeedRow]:
    """Who made it faster: all of compression, its change of structure alone, quantisation alone."""
    rows = []
    last = beside.get("last")
    if "reference" in beside:
        rows.append(_row(one.row.path, _BEFORE, beside["reference"], profile, macs_ratio))
        if last is not None:
            rows.append(_row(f"{one.row.path} in float32", _BEFORE, beside["reference"], last, macs_ratio))
    if last is not None:
        rows.append(_row(one.row.path, SAME, last, profile, 1.0 if rows else macs_ratio))
    if "half" in beside:
        rows.append(_row(one.row.path, HALF, beside["half"], profile, 1.0))
    return rows


def _row(artifact: str, reference: str, slow: Profile, fast: Profile, macs_ratio: float) -> SpeedRow:
    found = compare(slow, fast)
    return SpeedRow(
        artifact=artifact,
        reference=reference,
        device=fast.device,
        stand_in=found.stand_in,
        speedup=found.speedup,
        low=found.low,
        high=found.high,
        macs_ratio=macs_ratio,
        verdict=found.verdict,
    )


def _told(path: str, profile: Profile, speed: Sequence[SpeedRow]) -> str:
    label = f" (stand-in for {profile.stand_in_for})" if profile.stand_in else ""
    line = f"{path} on {profile.device}{label}: p50 {profile.summary.p50_ms:.3f} ms"
    if speed:
        first = speed[0]
        line += f", {first.speedup:.2f} times as fast as {first.reference} [{first.low:.2f}, {first.high:.2f}]"
    return line
