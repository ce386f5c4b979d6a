"""The job `profile`: latency samples of one artifact, or of several in alternating rounds, and what the machine did."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Sequence

from edgekit.agent.artifacts import library_versions
from edgekit.agent.errors import AgentError
from edgekit.agent.power import find_meters
from edgekit.agent.progress import tell
from edgekit.agent.runtimes.table import RUNTIMES, RuntimeTable
from edgekit.agent.sensors import ROOT, Glance, conditions, read_sensors
from edgekit.agent.throttle import held_back
from edgekit.agent.timing import runs_needed
from edgekit.agent.watch import Watch
from edgekit.agent.workers import Worker, read_layers

_IDLE_S = 3.0  # where the settings do not say
_WINDOW_S = 60.0
_LEAST_WINDOWS = 2  # one would have nothing to be compared with
_KEPT_PER_WINDOW = 5000


@dataclass
class _Found:
    """What came back for one case so far."""

    samples_ms: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    runs: int = 0
    wall_s: float = 0.0
    frames: dict[str, int] | None = None
    windows: list[dict[str, Any]] = field(default_factory=list)


def profile(job: Mapping[str, Any], folder: Path, runtimes: RuntimeTable = RUNTIMES) -> dict[str, Any]:
    """Samples of every case, and the machine before, during and after.

    Job keys: cases [{runtime, options (of the runtime; may be absent), artifact {path, sha256}, inputs [ArtifactTensor
    as a dict]}], settings (MeasureSettings as a dict), rounds, limit_s, seed; and where there is need meter (command of
    the user's own power meter on the device), metered (true: one is read elsewhere meanwhile), root (below which
    sensors lie: of a simulated board) and lower_percentile (asked for instead where the runs for that of the settings
    would take over limit_s; the result's `percentile` says which it was). Inputs are random and fixed by the seed. With
    several rounds the cases run A B, B A, A B, ..., which spreads a machine's drift over all of them. Settings with
    `sustained_s` ask for windows of about a minute instead, one after the other without a pause.

    Raises:
        AgentError: an artifact cannot be loaded or run, its process died, or measuring would take over `limit_s`.
    """
    settings, cases, seed = job["settings"], job["cases"], int(job["seed"])
    root = Path(str(job.get("root", ROOT)))
    meters, no_others = find_meters(root, job.get("meter", ()), tools=root == ROOT)
    watch = Watch(meters, no_others, root=root)
    start = read_sensors(root)
    idle_s = float(settings.get("idle_s", _IDLE_S))
    if idle_s and (meters or job.get("metered")):
        _tell(stage="idle power", seconds=idle_s)
        if meters:
            watch.idle(idle_s)
        else:
            time.sleep(idle_s)  # somebody else reads a meter
        _tell(stage="idle power read")
    workers: list[Worker] = []

    def between() -> float:
        watch.tick()
        return watch.wait_s()

    try:
        for case in cases:
            _tell(stage="loading", artifact=str(case["artifact"]["path"]))
            workers.append(Worker(case, folder, settings, seed, runtimes, between))
        settings = _affordable(job, [float(worker.ready["expected_ms"]) for worker in workers])
        if settings.get("sustained_s"):
            found = _sustain(settings, workers, watch)
        else:
            found = _alternate(settings, int(job["rounds"]), workers, watch)
        ends = [worker.finish() for worker in workers]
    finally:
        for worker in workers:
            worker.stop()
        watch.stop()
    read = conditions(start, read_sensors(root), root, watch.glances())
    read["extra"].update({"glances": len(watch.glances()), "glance_cost_ms": watch.cost_ms})
    if settings.get("layers"):
        for case, end in zip(cases, ends):
            _tell(stage="layers", artifact=str(case["artifact"]["path"]))
            end.update(read_layers(case, folder, settings, seed, runtimes, lambda: 1.0))
    results = []
    for index, (one, end) in enumerate(zip(found, ends)):
        on_gpu = bool(end.pop("on_gpu"))
        own = {"energy": watch.energy(str(index), on_gpu), "trace": watch.trace(str(index), on_gpu)}
        results.append({**end, **vars(one), **own})
    percentile = settings["percentile"]
    return {"cases": results, "conditions": read, "libraries": library_versions(), "percentile": percentile}


def _runs(settings: Mapping[str, Any]) -> int:
    return max(int(settings["min_runs"]), runs_needed(float(settings["percentile"])))


def _affordable(job: Mapping[str, Any], expected_ms: Sequence[float]) -> Mapping[str, Any]:
    """The settings, with the job's `lower_percentile` where the one asked for takes longer than the job allows."""
    asked = job["settings"]
    lower = job.get("lower_percentile")
    for settings in [asked] if lower is None else [asked, dict(asked, percentile=lower)]:
        if _expected_s(settings, expected_ms) <= float(job["limit_s"]):
            return settings  # type: ignore[no-any-return]
    raise AgentError(
        "{} runs need about {:.0f} s, the limit is {:.0f} s".format(
            _runs(settings), _expected_s(settings, expected_ms), float(job["limit_s"])
        ),
        ", ".join(str(case["artifact"]["path"]) for case in job["cases"]),
        "ask for a lower percentile or fewer runs",
    )


def _expected_s(settings: Mapping[str, Any], expected_ms: Sequence[float]) -> float:
    """Seconds that measuring cases will take, for what one run of each takes."""
    period_ms = 1e3 / float(settings["fps"]) if settings.get("fps") else 0.0
    if settings.get("sustained_s"):
        return float(settings["sustained_s"]) * len(expected_ms)
    runs = _runs(settings)
    return sum(max(float(settings["duration_s"]), runs * max(one_ms, period_ms) / 1e3) for one_ms in expected_ms)


def _alternate(settings: Mapping[str, Any], rounds: int, workers: Sequence[Worker], watch: Watch) -> list[_Found]:
    """Rounds A B, B A, A B, ...; duration and runs are shared out over them."""
    duration_s, runs = float(settings["duration_s"]) / rounds, math.ceil(_runs(settings) / rounds)
    found = [_Found() for _ in workers]
    for round_index in range(rounds):
        order = range(len(workers)) if round_index % 2 == 0 else reversed(range(len(workers)))
        for index in order:
            _tell(stage="measuring", case=index, done=round_index, total=rounds)
            _measure(workers[index], found[index], watch, str(index), settings, duration_s, runs, round_index > 0)
    _tell(stage="measured", done=rounds, total=rounds)
    return found


def _sustain(settings: Mapping[str, Any], workers: Sequence[Worker], watch: Watch) -> list[_Found]:
    """Windows of about a minute, each with what was seen meanwhile."""
    whole_s = float(settings["sustained_s"])
    count = max(_LEAST_WINDOWS, round(whole_s / _WINDOW_S))
    found = [_Found() for _ in workers]
    for index, worker in enumerate(workers):
        for window in range(count):
            _tell(stage="measuring", case=index, done=window, total=count, left_s=whole_s * (count - window) / count)
            seen = len(watch.glances(str(index)))
            reply = _measure(
                worker, found[index], watch, str(index), settings, whole_s / count, 1, False, _KEPT_PER_WINDOW
            )
            glances = watch.glances(str(index))
            # with the last look of the window before, or what a counter gained in between would be nobody's
            held, how = held_back([glance.throttle for glance in glances[max(seen - 1, 0) :]])
            found[index].windows.append(
                {
                    "wall_s": reply["wall_s"],
                    "runs": reply["runs"],
                    "kept": len(reply["samples_ms"]),
                    "frames": reply["frames"],
                    **_extremes(glances[seen:]),
                    "throttled": held,
                    "throttled_by": how,
                }
            )
    _tell(stage="measured", done=count, total=count)
    return found


def _tell(**fields: Any) -> None:
    """Say how far the job is, and when by this machine's clock: who reads a meter elsewhere must know."""
    tell(at_s=time.monotonic(), **fields)


def _measure(
    worker: Worker,
    found: _Found,
    watch: Watch,
    key: str,
    settings: Mapping[str, Any],
    duration_s: float,
    runs: int,
    rewarm: bool,
    keep: int | None = None,
) -> dict[str, Any]:
    watch.begin(key)
    reply = worker.measure(duration_s=duration_s, runs=runs, rewarm=rewarm, fps=settings.get("fps"), keep=keep)
    watch.end()
    found.samples_ms.extend(reply["samples_ms"])
    found.rounds.append(len(reply["samples_ms"]))
    found.runs += int(reply["runs"])
    found.wall_s += float(reply["wall_s"])
    if reply["frames"] is not None:
        before = found.frames or dict.fromkeys(reply["frames"], 0)
        found.frames = {name: before[name] + count for name, count in reply["frames"].items()}
    return reply


def _extremes(glances: Sequence[Glance]) -> dict[str, float | None]:
    clocks = [glance.clock_mhz for glance in glances if glance.clock_mhz is not None]
    gpu_clocks = [glance.gpu_clock_mhz for glance in glances if glance.gpu_clock_mhz is not None]
    temperatures = [glance.temp_c for glance in glances if glance.temp_c is not None]
    return {
        "clock_mhz_min": min(clocks, default=None),
        "gpu_clock_mhz_min": min(gpu_clocks, default=None),
        "temp_c_max": max(temperatures, default=None),
    }
