"""Profiles: what was measured, on what, under which conditions."""

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from edgekit.schema.base import Record

# settings that came later: left out where they say nothing, so that settings from before have the key they had
_LATER = {"fps": None, "sustained_s": None, "idle_s": 3.0, "layers": False}


class MeasureSettings(Record):
    """How a latency is measured. The rules stand in docs/measuring.md."""

    threads: int = Field(1, ge=1)
    batch: int = Field(1, ge=1)
    warmup_ms: float = Field(200.0, ge=0)
    warmup_runs: int = Field(10, ge=0)
    duration_s: float = Field(3.0, gt=0)
    min_runs: int = Field(100, ge=1)
    percentile: float = Field(99.0, gt=0, lt=100, description="highest percentile asked for")
    fps: float | None = Field(None, gt=0, description="one inference a period, idle in between; none: back to back")
    sustained_s: float | None = Field(None, gt=0, description="so long without a pause, instead of `duration_s`")
    idle_s: float = Field(3.0, ge=0, description="idle power is measured so long before; nothing without a power meter")
    layers: bool = Field(False, description="also the time of every layer, in a process of its own")

    @model_serializer(mode="wrap")
    def _without_later(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        return {key: value for key, value in document.items() if key not in _LATER or value != _LATER[key]}


class Conditions(Record):
    """The machine at the time. `None` or empty: could not be read there. `min` and `max` are of the timed runs."""

    cpu: str = ""
    architecture: str = ""
    clock_mhz_start: float | None = None
    clock_mhz_end: float | None = None
    clock_mhz_min: float | None = None
    gpu_clock_mhz_start: float | None = None
    gpu_clock_mhz_end: float | None = None
    gpu_clock_mhz_min: float | None = None
    governor: str | None = None
    power_mode: str | None = Field(None, description="nvpmodel of a Jetson")
    clocks_pinned: bool | None = Field(None, description="every processor has one clock alone: jetson_clocks")
    temp_c_start: float | None = None
    temp_c_end: float | None = None
    temp_c_max: float | None = None
    throttled: bool | None = Field(None, description="at any look before, during or after; none: nothing tells it here")
    throttled_by: tuple[str, ...] = ()
    throttle_source: str = Field("", description="what `throttled` was read from; empty: nothing")
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


class Energy(Record):
    """Energy of one inference. Where a number is absent, `unavailable` says why."""

    source: str = Field("", description="the meter")
    rails: tuple[str, ...] = Field((), description="what the meter sums")
    note: str = Field("", description="what is not in it")
    idle_w: float | None = Field(None, description="before anything was loaded")
    load_w: float | None = Field(None, description="mean while it ran, pauses between frames included")
    energy_per_inference_mj: float | None = Field(None, description="(load_w - idle_w) x seconds per inference")
    gross_per_inference_mj: float | None = Field(None, description="load_w x seconds per inference")
    unavailable: str = ""


class Cadence(Record):
    """What became of the frames, one a period."""

    fps: float
    due: int = Field(description="frames that arrived")
    missed: int = Field(description="answered after the next one had arrived, or never")
    dropped: int = Field(description="never looked at: a newer one was there")

    @property
    def missed_ratio(self) -> float:
        """Share of the frames whose deadline was missed."""
        return self.missed / self.due if self.due else 0.0


class MinuteRow(Record):
    """About a minute of a sustained run."""

    seconds: float
    runs: int
    p50_ms: float
    p90_ms: float
    clock_mhz_min: float | None = None
    gpu_clock_mhz_min: float | None = None
    temp_c_max: float | None = None
    throttled: bool | None = None
    throttled_by: tuple[str, ...] = ()
    missed: int | None = Field(None, description="deadlines; none: back to back")


class Sustained(Record):
    """How a run of many minutes went. It is slower or faster at its end by `slowdown`."""

    minutes: tuple[MinuteRow, ...]
    slowdown: float = Field(description="p50 of the last minute / of the first")
    low: float = Field(description="lower end of its 95 % bootstrap interval")
    high: float
    kept_ratio: float = Field(description="share of the runs in `samples_ms`: every k-th, 5,000 a minute at most")


class LayerRow(Record):
    """One layer as the runtime executes it; several of the network may be one."""

    name: str
    operator: str
    precision: str | None = Field(None, description="none: the runtime does not say")
    mean_ms: float
    ratio: float = Field(description="share of the sum of all layers")
    runs: int


class TraceRow(Record):
    """One look at the machine while the artifact ran."""

    at_s: float = Field(description="since the job began")
    clock_mhz: float | None = None
    gpu_clock_mhz: float | None = None
    temp_c: float | None = None
    power_w: float | None = None
    throttled: bool | None = None


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
    peak_gpu_bytes: int | None = None
    gpu_memory_unavailable: str = Field("", description="why `peak_gpu_bytes` is absent")
    energy: Energy | None = Field(None, description="none: from before energy was measured")
    cadence: Cadence | None = None
    sustained: Sustained | None = None
    layers: tuple[LayerRow, ...] = Field((), description="in order of execution")
    layers_unavailable: str = Field("", description="why `layers` is empty though it was asked for")
    trace: tuple[TraceRow, ...] = ()
    valid: bool
    reasons: tuple[str, ...] = Field(
        (), description="why not valid: throttled, drifted, noisy, too few samples, stand-in"
    )
    measured_at: str = Field(description="UTC, ISO 8601")
    libraries: dict[str, str] = Field(default_factory=dict)
    kind: Literal["latency"] = "latency"

    @property
    def layers_ms(self) -> float | None:
        """Sum of the layers; None: there are none. It never is the latency: profilers cost time, and parts overlap."""
        return sum(row.mean_ms for row in self.layers) if self.layers else None
