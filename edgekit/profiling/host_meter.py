"""A power meter beside edgekit, read while a board measures: a USB meter in the board's supply, a laboratory one.

The board tells when it begins what, by its own clock; a reading belongs to what the board did when it came in. A line
of progress can only arrive late, so the least delay of all of them is the difference between the two clocks.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgekit.agent.meters import watts
from edgekit.errors import DeviceError

LEAST_READINGS = 3
IDLE = "idle"
_SETTLE_S = 0.2  # after a change, before readings count: what a meter averages over


class HostMeter:
    """Reads a command that prints watts in a thread of its own, as long as the context lasts.

    Args:
        argv: the command.
        clock: seconds; also that of `heard`.

    Raises:
        DeviceError: the command cannot be started.
    """

    def __init__(self, argv: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.source = f"meter {argv[0]} beside edgekit"
        self._argv, self._clock = list(argv), clock
        self._readings: list[tuple[float, float]] = []
        self._events: list[
            tuple[float, float, str | None]
        ] = []  # heard at, said at by the board, what it does from then

    def __enter__(self) -> HostMeter:
        try:
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        except OSError as err:
            raise DeviceError(
                f"the power meter cannot be started: {err}", " ".join(self._argv), "correct `power` in devices.yaml"
            ) from err
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def heard(self, fields: Mapping[str, Any]) -> None:
        """Note what the agent tells."""
        if "at_s" not in fields:
            return
        doing = IDLE if fields["stage"] == "idle power" else None
        if fields["stage"] == "measuring":
            doing = str(fields["case"])
        self._events.append((self._clock(), float(fields["at_s"]), doing))

    def energy(self, case: int) -> dict[str, Any]:
        """Mean power of a case and idle, with the keys that the agent uses for its own meters."""
        found: dict[str, Any] = {"source": self.source, "rails": ["whole device"], "note": ""}
        load, idle = self._readings_of(str(case)), self._readings_of(IDLE)
        found["load_w"] = sum(load) / len(load) if len(load) >= LEAST_READINGS else None
        found["idle_w"] = sum(idle) / len(idle) if len(idle) >= LEAST_READINGS else None
        if found["load_w"] is None:
            found["unavailable"] = f"{len(load)} readings of the meter while it ran, {LEAST_READINGS} are needed"
        elif found["idle_w"] is None:
            found["unavailable"] = f"{len(idle)} readings of the meter while idle, {LEAST_READINGS} are needed"
        return found

    def _readings_of(self, doing: str) -> list[float]:
        if not self._events:
            return []
        offset = min(heard - said for heard, said, _ in self._events)
        spans = []
        ends = [said + offset for _, said, _ in self._events[1:]] + [self._events[-1][0]]
        for (_, said, what), end in zip(self._events, ends, strict=True):
            if what == doing:
                spans.append((said + offset + _SETTLE_S, end))
        return [value for at, value in self._readings if any(begin <= at < end for begin, end in spans)]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            value = watts(line)
            if value is not None:
                self._readings.append((self._clock(), value))
