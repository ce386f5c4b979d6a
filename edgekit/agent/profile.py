"""The job `profile`: latency samples of one artifact, or of several in alternating rounds.

Every artifact is loaded and timed in a worker process of its own, so its peak memory is its own and no runtime disturbs
another's. Workers are forked before any runtime is imported and wait on a pipe while another one runs.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import resource
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from edgekit.agent.artifacts import checked_path, library_versions
from edgekit.agent.errors import AgentError
from edgekit.agent.memory import peak_rss_bytes, rss_bytes
from edgekit.agent.runtimes.table import RUNTIMES, RuntimeTable, runtime_class
from edgekit.agent.sensors import conditions, read_sensors
from edgekit.agent.timing import runs_needed, time_runs, warm_up

if TYPE_CHECKING:
    from numpy.typing import NDArray

_REWARM_RATIO = 0.1  # of the first warm-up, before every later round: caches and clocks, not one-time work
_REWARM_RUNS = 3


def profile(job: Mapping[str, Any], folder: Path, runtimes: RuntimeTable = RUNTIMES) -> dict[str, Any]:
    """Samples of every case, and the machine before and after.

    Job keys: cases [{runtime, options (of the runtime; may be absent), artifact {path, sha256}, inputs [ArtifactTensor
    as a dict]}], settings (MeasureSettings as a dict), rounds, limit_s, seed. Inputs are random and fixed by the seed.
    With several rounds the cases run A B, B A, A B, ..., which spreads a machine's drift over all of them.

    Raises:
        AgentError: an artifact cannot be loaded or run, its process died, or measuring would take over `limit_s`.
    """
    settings, cases, rounds = job["settings"], job["cases"], int(job["rounds"])
    runs = max(int(settings["min_runs"]), runs_needed(float(settings["percentile"])))
    start = read_sensors()
    workers: list[_Worker] = []
    try:
        for case in cases:
            workers.append(_Worker(case, folder, settings, int(job["seed"]), runtimes))
        expected_s = sum(max(float(settings["duration_s"]), runs * worker.expected_ms / 1e3) for worker in workers)
        if expected_s > float(job["limit_s"]):
            raise AgentError(
                "{} runs need about {:.0f} s, the limit is {:.0f} s".format(runs, expected_s, float(job["limit_s"])),
                ", ".join(str(case["artifact"]["path"]) for case in cases),
                "ask for a lower percentile or fewer runs",
            )
        for index in range(rounds):
            for worker in workers if index % 2 == 0 else reversed(workers):
                worker.measure(index, float(settings["duration_s"]) / rounds, math.ceil(runs / rounds))
        found = [worker.finish() for worker in workers]
    finally:
        for worker in workers:
            worker.stop()
    return {"cases": found, "conditions": conditions(start, read_sensors()), "libraries": library_versions()}


class _Worker:
    """The parent's side of one artifact's process. Starting it loads the artifact and warms up."""

    def __init__(
        self, case: Mapping[str, Any], folder: Path, settings: Mapping[str, Any], seed: int, runtimes: RuntimeTable
    ) -> None:
        self._name = str(case["artifact"]["path"])
        self._samples_ms: list[float] = []
        self._rounds: list[int] = []
        context = multiprocessing.get_context("fork")  # no thread exists yet, and no runtime to import twice
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._pipe, case, folder, settings, seed, runtimes)
        )
        self._process.daemon = True
        self._process.start()
        theirs.close()
        self.expected_ms = float(self._receive()["expected_ms"])

    def measure(self, index: int, duration_s: float, runs: int) -> None:
        _send(self._pipe, {"round": index, "duration_s": duration_s, "runs": runs})
        samples_ms = self._receive()["samples_ms"]
        self._samples_ms.extend(samples_ms)
        self._rounds.append(len(samples_ms))

    def finish(self) -> dict[str, Any]:
        _send(self._pipe, {"round": None})
        return dict(self._receive(), samples_ms=self._samples_ms, rounds=self._rounds)

    def stop(self) -> None:
        self._pipe.close()
        self._process.join(5)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()

    def _receive(self) -> dict[str, Any]:
        try:
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


def _serve(
    pipe: Connection,
    parents: Connection,
    case: Mapping[str, Any],
    folder: Path,
    settings: Mapping[str, Any],
    seed: int,
    runtimes: RuntimeTable,
) -> None:
    """The worker's side: load, warm up, then a round whenever asked."""
    parents.close()  # or the end of the parent would go unnoticed here
    try:
        _measure(pipe, case, folder, settings, seed, runtimes)
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
    path = checked_path(case, folder)
    feeds = random_feeds(case["inputs"], seed)
    unloaded = runtime_class(case["runtime"], runtimes)(path, int(settings["threads"]), case.get("options", {}))
    before_load = rss_bytes()
    with unloaded as runtime:

        def run() -> object:
            return runtime.infer(feeds)

        warmup_ms, warmup_runs = float(settings["warmup_ms"]), int(settings["warmup_runs"])
        durations_ms = warm_up(run, warmup_ms, warmup_runs)
        _send(pipe, {"expected_ms": median(durations_ms) if durations_ms else 0.0})
        processor_s, wall_s, preempted = 0.0, 0.0, 0
        while True:
            order = json.loads(pipe.recv_bytes())
            if order["round"] is None:
                break
            if order["round"] > 0:
                warm_up(run, warmup_ms * _REWARM_RATIO, min(warmup_runs, _REWARM_RUNS))
            usage, processor, wall = resource.getrusage(resource.RUSAGE_SELF), time.process_time(), time.perf_counter()
            samples_ms = time_runs(run, float(order["duration_s"]), int(order["runs"]))
            wall_s += time.perf_counter() - wall
            processor_s += time.process_time() - processor
            preempted += resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - usage.ru_nivcsw
            _send(pipe, {"samples_ms": samples_ms})
        version = runtime.version
    _send(
        pipe,
        {
            "runtime_version": version,
            "peak_rss_bytes": peak_rss_bytes(),
            "load_rss_bytes": before_load,
            "processor_ratio": processor_s / wall_s if wall_s else None,
            "preempted": preempted,
        },
    )


def random_feeds(inputs: list[dict[str, Any]], seed: int) -> dict[str, NDArray[Any]]:
    """One batch for every input by the artifact's names, fixed by the seed.

    Floats are standard normal. Codes are uniform over their range. Other integers are 0, which is in the range of any
    index.
    """
    generator = np.random.default_rng(seed)
    feeds: dict[str, NDArray[Any]] = {}
    for tensor in inputs:
        dtype, shape = np.dtype(tensor["dtype"]), tuple(tensor["shape"])
        if dtype.kind == "f":
            feeds[tensor["name"]] = generator.standard_normal(shape).astype(dtype)
        elif tensor.get("scale") is not None:
            limits = np.iinfo(dtype)
            feeds[tensor["name"]] = generator.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
        else:
            feeds[tensor["name"]] = np.zeros(shape, dtype)
    return feeds


def _send(pipe: Connection, message: Mapping[str, Any]) -> None:
    pipe.send_bytes(json.dumps(message).encode())
