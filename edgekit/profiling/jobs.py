"""What the host asks of the agent: measure one artifact, or several fairly. Running samples is in inference.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgekit.devices.detached import Progress
from edgekit.devices.session import AgentSession, lease_request
from edgekit.errors import SchemaError
from edgekit.profiling.host_meter import HostMeter
from edgekit.profiling.records import Asked, profiles_of
from edgekit.schema.device import Device
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.profile import MeasureSettings, Profile

ROUNDS = 15
_MEASURE_LIMIT_S = 900.0  # of timed runs, of all artifacts of a job together; the agent refuses what would take longer
_SUSTAINED_MARGIN = 1.1  # a sustained run takes as long as it is asked to
_LOAD_TIMEOUT_S = 300.0  # importing runtimes, loading artifacts, warming up
_SEED = 0


def profile(
    device: Device,
    path: Path,
    row: ArtifactRow,
    runtime: str,
    settings: MeasureSettings,
    *,
    stand_in_for: str | None = None,
    options: Mapping[str, Any] | None = None,
    lower_percentile: float | None = None,
    session: AgentSession | None = None,
    on_progress: Progress | None = None,
) -> Profile:
    """Measure one artifact's latency and memory on a device.

    Args:
        device: where.
        path: the artifact's file; its digest must be the one in `row`.
        row: what the manifest says of it.
        runtime: name of the runtime.
        settings: how.
        stand_in_for: target that `device` is not of, though the artifact is for it; the device's own word otherwise.
        options: of the runtime, such as an engine's passport or a delegate.
        lower_percentile: measured instead of that of `settings` where its runs would take too long; the profile's own
            settings say which it was. None: that is an error.
        session: on `device`; none: one of its own.
        on_progress: gets what the agent tells, field by field.

    Raises:
        SchemaError: `settings` asks for another batch than the artifact was exported with.
        DeviceError: the device or the runtime failed, or measuring would take too long.
    """
    cases, each = [(path, row, runtime)], [options or {}]
    return _measure(device, cases, settings, 1, stand_in_for, each, lower_percentile, session, on_progress)[0]


def profile_interleaved(
    device: Device,
    artifacts: Sequence[tuple[Path, ArtifactRow, str]],
    settings: MeasureSettings,
    *,
    rounds: int = ROUNDS,
    stand_in_for: str | None = None,
    options: Sequence[Mapping[str, Any]] = (),
    lower_percentile: float | None = None,
    session: AgentSession | None = None,
    on_progress: Progress | None = None,
) -> tuple[Profile, ...]:
    """Measure several artifacts in alternating rounds: A B, B A, A B, ...

    Drift of a shared or warming machine then hits all alike, which a comparison needs more than long runs. Every
    artifact has a process of its own for all rounds, so its memory is its own and its warm-up is paid once; only one
    process runs at a time. `settings.duration_s` and the runs are shared out over the rounds.

    Args:
        device: where.
        artifacts: (file, row, runtime) of each.
        settings: for all of them.
        rounds: at least 2.
        stand_in_for: as in `profile`.
        options: of each artifact's runtime, in their order; empty: none of any.
        lower_percentile: as in `profile`.
        session: as in `profile`.
        on_progress: as in `profile`.

    Raises:
        SchemaError: fewer than two rounds, a sustained run, or another batch than an artifact was exported with.
        DeviceError: the device or a runtime failed, or measuring would take too long.
    """
    if rounds < 2:
        raise SchemaError(f"{rounds} rounds cannot alternate", "rounds", "ask for two at least")
    if settings.sustained_s:
        raise SchemaError("a sustained run does not alternate", "sustained_s", "measure one artifact after the other")
    each = options or [{}] * len(artifacts)
    return _measure(device, artifacts, settings, rounds, stand_in_for, each, lower_percentile, session, on_progress)


def _measure(
    device: Device,
    artifacts: Sequence[tuple[Path, ArtifactRow, str]],
    settings: MeasureSettings,
    rounds: int,
    stand_in_for: str | None,
    options: Sequence[Mapping[str, Any]],
    lower_percentile: float | None,
    session: AgentSession | None,
    on_progress: Progress | None,
) -> tuple[Profile, ...]:
    cases = []
    files = {}
    for index, ((path, row, runtime), its_options) in enumerate(zip(artifacts, options, strict=True)):
        batch = next((tensor.shape[0] for tensor in row.inputs if tensor.shape), 1)
        if batch != settings.batch:
            raise SchemaError(
                f"measuring at batch {settings.batch} was asked of an artifact exported at batch {batch}",
                f"artifact {path.name}",
                f"set export.batch to {settings.batch}, or measure at batch {batch}",
            )
        name = f"{index}-{path.name}"
        files[name] = path
        cases.append(
            {
                "runtime": runtime,
                "options": dict(its_options),
                "artifact": {"path": name, "sha256": row.sha256},
                "inputs": [tensor.model_dump() for tensor in row.inputs],
            }
        )
    limit_s = max(_MEASURE_LIMIT_S, _SUSTAINED_MARGIN * (settings.sustained_s or 0.0) * len(artifacts))
    job: dict[str, Any] = {
        "kind": "profile",
        "cases": cases,
        "settings": settings.model_dump(),
        "rounds": rounds,
        "limit_s": limit_s,
        "seed": _SEED,
        **({} if lower_percentile is None else {"lower_percentile": lower_percentile}),
        "lease": lease_request(),
    }
    timeout_s = _LOAD_TIMEOUT_S + 2 * limit_s
    with nullcontext(session) if session is not None else AgentSession(device) as running:
        result = _metered(running, device, job, files, timeout_s, on_progress)
    measured_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    settings = settings.model_copy(update={"percentile": result["percentile"]})
    return profiles_of(Asked(device, artifacts, settings, stand_in_for, measured_at), result)


def _metered(
    session: AgentSession,
    device: Device,
    job: dict[str, Any],
    files: Mapping[str, Path],
    timeout_s: float,
    on_progress: Progress | None,
) -> dict[str, Any]:
    """Run the job with the power meter that the device names, if it names one; the agent's own stands back for it."""
    if device.power is None:
        return session.run(job, files, {}, timeout_s=timeout_s, on_progress=on_progress)
    if device.power.on == "device":
        own = {**job, "meter": list(device.power.meter)}
        return session.run(own, files, {}, timeout_s=timeout_s, on_progress=on_progress)
    with HostMeter(device.power.meter) as meter:

        def heard(fields: Mapping[str, Any]) -> None:
            meter.heard(fields)
            if on_progress is not None:
                on_progress(fields)

        result = session.run({**job, "metered": True}, files, {}, timeout_s=timeout_s, on_progress=heard)
        for index, case in enumerate(result["cases"]):
            case["energy"] = meter.energy(index)
    return result
