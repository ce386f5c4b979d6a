"""Stands in for a board's runtime: real outputs from a runtime that is here, time and conditions from a script.

Only a simulated transport puts it into a job. Nothing waits: a run advances a clock that all processes of the simulated
board share, and the agent times with that clock. What it measures is the script, so it is labelled `simulated`.
"""

from __future__ import annotations

import math
import mmap
import os
import random
import signal
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from edgekit.agent.memory import rss_bytes
from edgekit.agent.runtimes.options import known_only

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.agent.runtimes.protocol import Runtime

_THROTTLED = 0x40004  # Raspberry Pi's bits: throttled now, and since boot
_ALTERED_RATIO = 0.1


class ScriptedClock:
    """Nanoseconds since the simulated board was switched on, in 8 bytes of a file that its processes share."""

    def __init__(self, path: Path) -> None:
        with open(path, "r+b") as stream:
            self._bytes = mmap.mmap(stream.fileno(), 8)

    def now_ns(self) -> int:
        """The present."""
        return int(struct.unpack("<q", self._bytes[:8])[0])

    def advance_ns(self, ns: int) -> None:
        """Let time pass. Only one process of a board works at a time, as the agent's workers take turns."""
        self._bytes[:8] = struct.pack("<q", self.now_ns() + ns)


class Simulated:
    """Options: runtime (what computes the outputs), options (its own), script (a Simulation as a dict), board (folder).

    Attributes:
        clock: the scripted clock, which the agent times with instead of its own.
        sleep: lets scripted time pass.
    """

    layers_unavailable = "a simulated board has no times of layers"

    def __init__(self, path: Path, threads: int, options: Mapping[str, Any]) -> None:
        from edgekit.agent.runtimes.table import runtime_class  # the table imports its rows, never they it

        known_only(options, ("runtime", "options", "script", "board"), "simulated")
        self._script: Mapping[str, Any] = options["script"]
        self._path, self._board = path, Path(str(options["board"]))
        real = runtime_class(str(options["runtime"]))
        self._real: Runtime = real(path, threads, options["options"])
        self.version = "simulated over {} {}".format(options["runtime"], self._real.version)
        self._clock = ScriptedClock(self._board / "clock")
        self.clock = self._clock.now_ns
        self._random = random.Random(f"{self._script['latency']['seed']}:{path.name}")
        self._runs = 0
        self._phase = -1

    def sleep(self, seconds: float) -> None:
        """As time.sleep, on the scripted clock."""
        self._clock.advance_ns(max(0, int(seconds * 1e9)))

    def __enter__(self) -> Simulated:
        self._real.__enter__()
        limit, used = self._script["memory_bytes"], rss_bytes() or 0
        if limit is not None and used > limit:
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory is short
            time.sleep(60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._real.__exit__(kind, error, trace)

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `Runtime.infer`: the real outputs, unless the script wants them altered, and scripted time."""
        outputs = self._real.infer(feeds)
        self._clock.advance_ns(round(self.run_ms() * 1e6))
        self._runs += 1
        if self._script["answers"] == "altered":
            return {name: altered(array) for name, array in outputs.items()}
        return outputs

    def run_ms(self) -> float:
        """How long the next run takes. See SimulatedLatency."""
        latency = self._script["latency"]
        now_s = self._clock.now_ns() / 1e9
        known = latency["of"].get(_own_name(self._path))
        ms = latency["base_ms"] + latency["per_mb_ms"] * os.path.getsize(self._path) / 1e6 if known is None else known
        ms *= 1.0 + latency["drift_ratio_per_s"] * now_s
        warm = latency["warm_up_runs"]
        if self._runs < warm:
            ms *= 1.0 + (latency["warm_up_ratio"] - 1.0) * (1.0 - self._runs / warm)
        ms *= self._enter_phase(now_s)["slowdown"]
        return float(ms * math.exp(latency["jitter_ratio"] * self._random.gauss(0, 1)))

    def _enter_phase(self, now_s: float) -> Mapping[str, Any]:
        """The phase of now; its conditions are written where the agent reads its sensors."""
        phases = self._script["phases"]
        index = max(index for index, phase in enumerate(phases) if phase["from_s"] <= now_s)
        if index != self._phase:
            self._phase = index
            write_conditions(self._board / "root", phases[index])
        found: Mapping[str, Any] = phases[index]
        return found


def write_conditions(root: Path, phase: Mapping[str, Any]) -> None:
    """The files of /sys that say what a phase is like, below `root`."""
    for folder in (root / "sys/devices/system/cpu").glob("cpu[0-9]*"):
        (folder / "cpufreq/scaling_cur_freq").write_text("{:.0f}\n".format(phase["clock_mhz"] * 1000))
    (root / "sys/class/thermal/thermal_zone0/temp").write_text("{:.0f}\n".format(phase["temp_c"] * 1000))
    flags = _THROTTLED if phase["throttled"] else 0
    (root / "sys/devices/platform/soc/soc:firmware/get_throttled").write_text(f"{flags:x}\n")


def altered(array: NDArray[Any]) -> NDArray[Any]:
    """Off by a tenth of the range: floats of their largest value, codes of their type's."""
    if array.dtype.kind == "f":
        return np.asarray(array + _ALTERED_RATIO * (float(np.abs(array).max()) or 1.0), array.dtype)
    limits = np.iinfo(array.dtype)
    moved = array.astype(np.int64) + round(_ALTERED_RATIO * (int(limits.max) - int(limits.min)))
    return np.clip(moved, limits.min, limits.max).astype(array.dtype)


def _own_name(path: Path) -> str:
    """`0-model.onnx`, as jobs number their artifacts, is `model.onnx`."""
    number, _, name = path.name.partition("-")
    return name if number.isdigit() and name else path.name
