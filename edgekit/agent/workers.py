"""One artifact's own process: the parent's side, which gives orders, and the worker's, which loads and times.

Its peak memory is therefore its own, and no runtime disturbs another's. Workers are forked before any runtime is
imported and wait on a pipe while another one runs.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import signal
import time
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, Callable, Mapping

from edgekit.agent.artifacts import checked_path
from edgekit.agent.errors import AgentError
from edgekit.agent.feeds import random_feeds
from edgekit.agent.memory import peak_rss_bytes, rss_bytes
from edgekit.agent.runtimes.table import RuntimeTable, runtime_class
from edgekit.agent.timing import Clock, time_frames, time_runs, warm_up

_REWARM_RATIO = 0.1  # of the first warm-up, before every later round: caches and clocks, not one-time work
_REWARM_RUNS = 3
_LAYERS_S = 1.0  # about how long the runs for the times of layers take
_LAYER_RUNS = (10, 100)
_NO_LAYERS = "the agent has no way to the layers of this runtime"
_NO_GPU = "the runtime runs on the processor"
_NOT_TOLD = "the runtime does not say what it takes of the GPU's memory"

Serve = Callable[[Connection, Mapping[str, Any], Path, Mapping[str, Any], int, RuntimeTable], None]


class Worker:
    """The parent's side of one artifact's process. Starting it loads the artifact and warms up.

    Args:
        case: of the job.
        between: called again and again while the worker works, with nothing else to do; gives the seconds until it
            wants to be called next.
        serve: what the process does; none: measure.

    Raises:
        AgentError: the artifact cannot be loaded, or its process died; from every method.
    """

    def __init__(
        self,
        case: Mapping[str, Any],
        folder: Path,
        settings: Mapping[str, Any],
        seed: int,
        runtimes: RuntimeTable,
        between: Callable[[], float],
        serve: Serve | None = None,
    ) -> None:
        self._name = str(case["artifact"]["path"])
        self._between = between
        context = multiprocessing.get_context("fork")  # no thread exists yet, and no runtime to import twice
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._pipe, case, folder, settings, seed, runtimes, serve or _measure)
        )
        self._process.daemon = True
        self._process.start()
        theirs.close()
        self.ready = self.receive()

    def measure(self, **order: Any) -> dict[str, Any]:
        """One round. `order`: duration_s, runs, rewarm, fps (None: back to back), keep (samples at most)."""
        _send(self._pipe, order)
        return self.receive()

    def finish(self) -> dict[str, Any]:
        """What the process has to say at its end."""
        _send(self._pipe, {"runs": None})
        return self.receive()

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._pipe.close()
        self._process.join(5)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()

    def receive(self) -> dict[str, Any]:
        """The worker's next message."""
        try:
            while not self._pipe.poll(self._between()):
                pass
            reply: dict[str, Any] = json.loads(self._pipe.recv_bytes())
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode or 0
            how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
            raise AgentError(
                f"the runtime's process {how}",
                self._name,
                "SIGKILL is usually a lack of memory, SIGILL a runtime built for another processor",
            ) from None
        if "error" in reply:
            raise AgentError(**reply["error"])
        return reply


def read_layers(
    case: Mapping[str, Any],
    folder: Path,
    settings: Mapping[str, Any],
    seed: int,
    runtimes: RuntimeTable,
    between: Callable[[], float],
) -> dict[str, Any]:
    """Times of the artifact's layers, {layers: [...]}, or {layers_unavailable: why}; in a process of its own.

    A runtime's profiler slows it down, so this is never the process that latency is taken from.
    """
    worker = None
    try:
        worker = Worker(case, folder, settings, seed, runtimes, between, _profile_layers)
        return worker.ready
    except AgentError as err:  # the latency has been measured and does not depend on this
        return {"layers_unavailable": f"{err.what}; {err.fix}"}
    finally:
        if worker is not None:
            worker.stop()


def _serve(
    pipe: Connection,
    parents: Connection,
    case: Mapping[str, Any],
    folder: Path,
    settings: Mapping[str, Any],
    seed: int,
    runtimes: RuntimeTable,
    serve: Serve,
) -> None:
    """The worker's side."""
    parents.close()  # or the end of the parent would go unnoticed here
    try:
        serve(pipe, case, folder, settings, seed, runtimes)
    except AgentError as err:
        _send(pipe, {"error": err.fields()})
    except (EOFError, ConnectionError):
        return  # the parent gave up


def _measure(
    pipe: Connection,
    case: Mapping[str, Any],
    folder: Path,
    settings: Mapping[str, Any],
    seed: int,
    runtimes: RuntimeTable,
) -> None:
    """Load, warm up, then a round whenever asked."""
    path = checked_path(case, folder)
    feeds = random_feeds(case["inputs"], seed)
    unloaded = runtime_class(case["runtime"], runtimes)(path, int(settings["threads"]), case.get("options", {}))
    before_load = rss_bytes()
    with unloaded as runtime:
        # a simulated runtime brings its own time
        clock: Clock = getattr(runtime, "clock", time.perf_counter_ns)
        sleep: Callable[[float], None] = getattr(runtime, "sleep", time.sleep)

        def run() -> object:
            return runtime.infer(feeds)

        warmup_ms, warmup_runs = float(settings["warmup_ms"]), int(settings["warmup_runs"])
        durations_ms = warm_up(run, warmup_ms, warmup_runs, clock)
        _send(pipe, {"expected_ms": median(durations_ms) if durations_ms else 0.0})
        processor_s, wall_s, preempted = 0.0, 0.0, 0
        while True:
            order = json.loads(pipe.recv_bytes())
            if order["runs"] is None:
                break
            if order["rewarm"]:
                warm_up(run, warmup_ms * _REWARM_RATIO, min(warmup_runs, _REWARM_RUNS), clock)
            usage, processor, wall = resource.getrusage(resource.RUSAGE_SELF), time.process_time(), time.perf_counter()
            frames, began = None, clock()
            duration_s, runs = float(order["duration_s"]), int(order["runs"])
            if order["fps"] is None:
                samples_ms = time_runs(run, duration_s, runs, clock)
            else:
                samples_ms, counted = time_frames(run, float(order["fps"]), duration_s, runs, clock, sleep)
                frames = asdict(counted)
            seconds = (clock() - began) / 1e9
            wall_s += time.perf_counter() - wall
            processor_s += time.process_time() - processor
            preempted += resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - usage.ru_nivcsw
            kept = thinned(samples_ms, order["keep"])
            _send(pipe, {"samples_ms": kept, "runs": len(samples_ms), "wall_s": seconds, "frames": frames})
        version = runtime.version
        peak_gpu_bytes = getattr(runtime, "peak_gpu_bytes", None)
        on_gpu = bool(getattr(runtime, "on_gpu", False))
        no_gpu = getattr(runtime, "gpu_memory_unavailable", "") or (_NOT_TOLD if on_gpu else _NO_GPU)
    _send(
        pipe,
        {
            "runtime_version": version,
            "peak_rss_bytes": peak_rss_bytes(),
            "load_rss_bytes": before_load,
            "peak_gpu_bytes": peak_gpu_bytes,
            "gpu_memory_unavailable": "" if peak_gpu_bytes is not None else no_gpu,
            "on_gpu": on_gpu,
            "processor_ratio": processor_s / wall_s if wall_s else None,
            "preempted": preempted,
        },
    )


def _profile_layers(
    pipe: Connection,
    case: Mapping[str, Any],
    folder: Path,
    settings: Mapping[str, Any],
    seed: int,
    runtimes: RuntimeTable,
) -> None:
    """Load, and have the runtime's own profiler time its layers."""
    path = checked_path(case, folder)
    feeds = random_feeds(case["inputs"], seed)
    with runtime_class(case["runtime"], runtimes)(path, int(settings["threads"]), case.get("options", {})) as runtime:
        profiler: Any = getattr(runtime, "layers", None)
        why = getattr(runtime, "layers_unavailable", "")
        if profiler is None or why:
            _send(pipe, {"layers_unavailable": why or _NO_LAYERS})
            return
        least, most = _LAYER_RUNS
        took_s = warm_up(lambda: runtime.infer(feeds), 0.0, _REWARM_RUNS)[-1] / 1e3
        runs = max(least, min(most, int(_LAYERS_S / took_s) if took_s > 0 else most))
        _send(pipe, {"layers": list(profiler(feeds, runs))})


def thinned(samples_ms: list[float], most: int | None) -> list[float]:
    """Every k-th sample, k the least with which at most `most` are left; None: all of them."""
    if most is None or len(samples_ms) <= most:
        return samples_ms
    return samples_ms[:: -(-len(samples_ms) // most)]


def _send(pipe: Connection, message: Mapping[str, Any]) -> None:
    pipe.send_bytes(json.dumps(message).encode())
