"""What the agent sent back, as a Profile: summarised, judged, energy worked out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.profiling.statistics import summarise, sustained, verdict
from edgekit.schema.device import Device
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.profile import Cadence, Conditions, Energy, LayerRow, MeasureSettings, Profile, TraceRow


@dataclass(frozen=True)
class Asked:
    """What was asked of the agent.

    Attributes:
        artifacts: (file, row, runtime) of each case.
        stand_in_for: target that the device is not of; none: the device's own word.
        measured_at: UTC, ISO 8601, by the host's clock: a board without a battery does not know the date.
    """

    device: Device
    artifacts: Sequence[tuple[Path, ArtifactRow, str]]
    settings: MeasureSettings
    stand_in_for: str | None
    measured_at: str


def profiles_of(asked: Asked, result: Mapping[str, Any]) -> tuple[Profile, ...]:
    """One profile per case, in the order asked."""
    return tuple(_profile(asked, result, index) for index in range(len(asked.artifacts)))


def _profile(asked: Asked, result: Mapping[str, Any], index: int) -> Profile:
    path, row, runtime = asked.artifacts[index]
    case, settings = result["cases"][index], asked.settings
    together = [other.sha256 for _, other, _ in asked.artifacts] if len(asked.artifacts) > 1 else None
    read = dict(result["conditions"])
    read["extra"] = {
        **read["extra"],
        "processor_ratio": case["processor_ratio"],
        "preempted": case["preempted"],
        **({"rounds": case["rounds"], "interleaved": together} if together else {}),
    }
    conditions = Conditions.model_validate(read)
    samples_ms = tuple(case["samples_ms"])
    stand_in_for = asked.stand_in_for or asked.device.stand_in_for
    windows = tuple(case["rounds"]) if settings.sustained_s else ()
    valid, reasons = verdict(samples_ms, conditions, settings, stand_in=stand_in_for is not None, windows=windows)
    return Profile(
        artifact=path.name,
        artifact_sha256=row.sha256,
        device=asked.device.name,
        stand_in=stand_in_for is not None,
        stand_in_for=stand_in_for,
        runtime="simulated" if asked.device.transport == "simulated" else runtime,
        runtime_version=case["runtime_version"],
        agent_version=result["agent_version"],
        settings=settings,
        samples_ms=samples_ms,
        summary=summarise(samples_ms),
        conditions=conditions,
        peak_rss_bytes=case["peak_rss_bytes"],
        load_rss_bytes=case["load_rss_bytes"],
        peak_gpu_bytes=case["peak_gpu_bytes"],
        gpu_memory_unavailable=case["gpu_memory_unavailable"],
        energy=energy_of(case["energy"], case["wall_s"], case["runs"]),
        cadence=None if case["frames"] is None else Cadence(fps=settings.fps or 0.0, **case["frames"]),
        sustained=sustained(samples_ms, case["windows"], case["runs"]) if settings.sustained_s else None,
        layers=_layers(case.get("layers", ())),
        layers_unavailable=case.get("layers_unavailable", ""),
        trace=tuple(TraceRow.model_validate(row) for row in case["trace"]),
        valid=valid,
        reasons=reasons,
        measured_at=asked.measured_at,
        libraries=result["libraries"],
    )


def energy_of(read: Mapping[str, Any], wall_s: float, runs: int) -> Energy:
    """Energy of one inference from mean powers, over the time from one to the next.

    Args:
        read: source, rails, note, idle_w, load_w, unavailable, as far as the agent knows them.
        wall_s: that the runs took together, pauses between frames included.
        runs: that were made.
    """
    idle_w, load_w = read.get("idle_w"), read.get("load_w")
    seconds = wall_s / runs
    unavailable = read.get("unavailable", "")
    net_mj = None
    if idle_w is not None and load_w is not None:
        if load_w > idle_w:
            net_mj = (load_w - idle_w) * seconds * 1e3
        else:
            unavailable = (
                f"{load_w:.3g} W while it ran is not above {idle_w:.3g} W idle: the work is below what the meter "
                "resolves, or the machine was not idle before"
            )
    return Energy(
        source=read.get("source", ""),
        rails=tuple(read.get("rails", ())),
        note=read.get("note", ""),
        idle_w=idle_w,
        load_w=load_w,
        energy_per_inference_mj=net_mj,
        gross_per_inference_mj=None if load_w is None else load_w * seconds * 1e3,
        unavailable=unavailable,
    )


def _layers(read: Sequence[Mapping[str, Any]]) -> tuple[LayerRow, ...]:
    whole_ms = sum(layer["mean_ms"] for layer in read)
    return tuple(
        LayerRow(
            name=layer["name"],
            operator=layer["operator"],
            precision=layer.get("precision"),
            mean_ms=layer["mean_ms"],
            ratio=layer["mean_ms"] / whole_ms if whole_ms else 0.0,
            runs=layer["runs"],
        )
        for layer in read
    )
