"""Profiles and bundles' manifests, made without measuring."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from edgekit.profiling.statistics import summarise
from edgekit.schema.profile import Conditions, MeasureSettings, Profile
from edgekit.store.builds import Build, BuiltArtifact

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
SETTINGS = MeasureSettings(threads=2)


def profile_of(samples_ms: object = (1.25, 0.1, 1 / 3), **changes: Any) -> Profile:
    """A valid profile of these samples, measured an hour before NOON on `bench`; keywords replace its fields."""
    samples = tuple(float(value) for value in samples_ms)  # type: ignore[attr-defined]
    fields: dict[str, Any] = {
        "artifact": "model.onnx",
        "artifact_sha256": "a" * 64,
        "device": "bench",
        "stand_in": False,
        "runtime": "onnxruntime",
        "runtime_version": "1.2",
        "agent_version": "0.1.0+abc",
        "settings": SETTINGS,
        "samples_ms": samples,
        "summary": summarise(samples),
        "conditions": Conditions(cpu="A Fine CPU", affinity=(0, 1), extra={"identity": "1f", "readings": [1, 2]}),
        "valid": True,
        "measured_at": hours_before(1),
    }
    return Profile.model_validate({**fields, **changes})


def hours_before(hours: float) -> str:
    """ISO 8601, so many hours before NOON."""
    return (NOON - timedelta(hours=hours)).isoformat()


def timed(level_ms: float, seed: int, count: int = 300, spread: float = 0.01) -> tuple[float, ...]:
    """Samples in whole nanoseconds around a level, normal, their standard deviation `spread` of it."""
    drawn = level_ms * np.random.default_rng(seed).normal(1.0, spread, count)
    return tuple((np.rint(drawn * 1e6) / 1e6).tolist())


def stand_in(**changes: Any) -> dict[str, Any]:
    """The fields of a profile of a stand-in for a Jetson, which is otherwise in order."""
    fields = {"stand_in": True, "stand_in_for": "jetson-orin-nano", "valid": False, "reasons": ("stand-in",)}
    return {**fields, **changes}


def build_number(number: int, **changes: Any) -> Build:
    """A build of `kws` for `pi`, made `number` days after NOON, its digest and commit all of one digit."""
    fields: dict[str, Any] = {
        "digest": f"{number:x}" * 64,
        "recipe": "kws",
        "target": "pi",
        "git_commit": f"c{number:x}" * 20,
        "verdict": "pass",
        "made_s": (NOON + timedelta(days=number)).timestamp(),
        "artifacts": (BuiltArtifact("model.onnx", f"{number:x}e" * 32, 25_000 + number, "int8", {}),),
    }
    return Build(**{**fields, **changes})
