"""How far the build of an engine is: TensorRT's nested phases as one share, told every few seconds."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Callable

from edgekit.agent.progress import tell

_EVERY_S = 2.0
_TOTAL = 1000  # a share has no unit; what is told as done and total are thousandths
_SURE = 0.02  # share below which no time left is told


class BuildProgress:
    """A context in which a thread tells {stage, elapsed_s} and, once phases are reported, {done, total, left_s} too.

    Without phases (Python before TensorRT 10.0) only the elapsed time is told: it says that the board is at work.
    `start`, `step` and `finish` are what IProgressMonitor calls, from any thread. `left_s` assumes that the rest goes
    as fast as what is done. Steps differ, so it is a guess, made anew each time.
    """

    def __init__(
        self,
        stage: str,
        say: Callable[..., None] = tell,
        every_s: float = _EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stage, self._say, self._every_s, self._clock = stage, say, every_s, clock
        self._lock = threading.Lock()
        self._phases: dict[str, dict[str, Any]] = {}  # in order of start
        self._began = clock()
        self._root_began = self._began
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def __enter__(self) -> BuildProgress:
        self.tell_now()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def start(self, phase: str, parent: str, steps: int) -> None:
        """A phase of `steps` steps begins, as part of the current step of `parent` ('': of none)."""
        with self._lock:
            if not parent:
                self._phases.clear()
                self._root_began = self._clock()
            self._phases[phase] = {"parent": parent, "steps": max(steps, 1), "done": 0}

    def step(self, phase: str, index: int) -> None:
        """Step `index`, from 0 on, of a phase is done."""
        with self._lock:
            if phase in self._phases:
                self._phases[phase]["done"] = index + 1

    def finish(self, phase: str) -> None:
        """A phase is over; what was left of its steps is not done."""
        with self._lock:
            if phase in self._phases and self._phases[phase]["parent"]:
                del self._phases[phase]

    def tell_now(self) -> None:
        """Tell the state of this moment."""
        with self._lock:
            now = self._clock()
            root = next((name for name, phase in self._phases.items() if not phase["parent"]), None)
            fields: dict[str, Any] = {"stage": self._stage, "elapsed_s": round(now - self._began, 1)}
            if root is not None:
                share = self._share(root)
                fields.update(stage=f"{self._stage}: {list(self._phases)[-1]}", total=_TOTAL)
                fields["done"] = round(share * _TOTAL)
                spent = now - self._root_began
                fields["left_s"] = round(spent * (1 - share) / share, 1) if share >= _SURE else None
        self._say(**fields)

    def _share(self, name: str) -> float:
        phase = self._phases[name]
        inner = [self._share(child) for child, other in self._phases.items() if other["parent"] == name]
        share: float = (phase["done"] + min(sum(inner), 1.0)) / phase["steps"]
        return min(share, 1.0)

    def _repeat(self) -> None:
        while not self._ended.wait(self._every_s):
            self.tell_now()
