"""Profiles: what was measured, on what, under which conditions."""

from typing import Any, Literal

from pydantic import Field

from edgekit.schema.base import Record


class MeasureSettings(Record):
    """How a latency is measured. The rules stand in docs/measuring.md."""

    threads: int = Field(1, ge=1)
    batch: int = Field(1, ge=1)
    warmup_ms: float = Field(200.0, ge=0)
    warmup_runs: int = Field(10, ge=0)
    duration_s: float = Field(3.0, gt=0)
    min_runs: int = Field(100, ge=1)
    percentile: float = Field(99.0, gt=0, lt=100, description="highest percentile asked for")


class Conditions(Record):
    """The machine at the time. `None` or empty: could not be read there."""

    cpu: str = ""
    architecture: str = ""
    clock_mhz_start: float | None = None
    clock_mhz_end: float | None = None
    governor: str | None = None
    temp_c_start: float | None = None
    temp_c_end: float | None = None
    throttled: bool | None = None
    load_average: float | None = None
    affinity: tuple[int, ...] = ()
    extra: dict[str, Any] = Field(default_factory=dict)


class Summary(Record):
    """Statistics of the raw samples."""

    n: int
    mean_ms: float
    p50_ms: float
    p50_low_ms: float = Field(description="lower end of the 95 % bootstrap interval of p50")
    p50_high_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float | None = Field(description="none: too few samples for it")
    std_ms: float
    cov_ratio: float = Field(description="std / mean")


class Profile(Record):
    """Every latency sample of one artifact on one device, with the conditions it was taken under."""

    artifact: str = Field(description="file name of the artifact")
    artifact_sha256: str
    device: str
    stand_in: bool = Field(description="not the target's own hardware: passes no latency gate")
    stand_in_for: str | None = None
    runtime: str
    runtime_version: str
    agent_version: str
    settings: MeasureSettings
    samples_ms: tuple[float, ...]
    summary: Summary
    conditions: Conditions
    peak_rss_bytes: int | None = None
    load_rss_bytes: int | None = Field(None, description="resident size before the artifact was loaded")
    valid: bool
    reasons: tuple[str, ...] = Field(
        (), description="why not valid: throttled, drifted, noisy, too few samples, stand-in"
    )
    measured_at: str = Field(description="UTC, ISO 8601")
    libraries: dict[str, str] = Field(default_factory=dict)
    kind: Literal["latency"] = "latency"
