"""What the machine did while something was measured: glances at it about once a second, power more often.

The parent process looks while a worker measures and it waits anyway: no thread, and nothing in the worker's process.
`cost_ms` says what a look costs on the device at hand.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Sequence

from edgekit.agent.meters import Meter, MeterError
from edgekit.agent.power import choose_meter
from edgekit.agent.sensors import Glance, Probe
from edgekit.agent.sysfs import ROOT
from edgekit.agent.throttle import held_back

PERIOD_S = 1.0
POWER_PERIOD_S = 0.2
_SETTLE_S = 0.1  # after a change, before watts count: a sensor averages over the past; a short round is still seen
_LEAST_READINGS = 3
_LEAST_SECONDS = 0.5  # an energy counter moves in steps of up to a tenth of a second
IDLE = "idle"


@dataclass
class _Tally:
    """What one meter told during one kind of work."""

    seconds: float = 0.0
    joules: float = 0.0
    watts: list[float] = field(default_factory=list)


class Watch:
    """Collects glances and power, each under the key of what was going on.

    Args:
        meters: the one to prefer first.
        reasons: why there are no others.
        probe: none: that of this machine.
        clock: in seconds.
    """

    def __init__(
        self,
        meters: Sequence[Meter] = (),
        reasons: Sequence[str] = (),
        probe: Probe | None = None,
        root: Path = ROOT,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._meters, self._reasons = list(meters), list(reasons)
        self._probe = probe or Probe(root)
        self._clock, self._sleep = clock, sleep
        self._failed: dict[int, str] = {}
        self._tallies: dict[tuple[int, str], _Tally] = {}
        self._counts: dict[int, float] = {}  # joules of a counting meter when it was last read
        self._key: str | None = None
        self._seen = False  # a glance was taken under this key since it began
        self._origin = clock()
        self._since = self._next_glance = self._next_power = self._origin
        self._looks: list[tuple[float, str, Glance, list[float | None]]] = []
        self._cost_s, self._ticks = 0.0, 0

    def idle(self, seconds: float) -> None:
        """Watch the machine for a while with nothing of ours running. Without a meter that would tell nothing."""
        if not self._meters or seconds <= 0:
            return
        self.begin(IDLE)
        end = self._clock() + seconds
        while self._clock() < end:
            self._sleep(max(0.0, min(self.wait_s(), end - self._clock())))
            self.tick()
        self.end()

    def begin(self, key: str) -> None:
        """From now on what is seen belongs to `key`."""
        self._key, self._seen = key, False
        self._since = self._clock()
        self._next_power = self._since + _SETTLE_S
        for index, meter in self._working():
            if meter.counts:
                self._read(index, meter)

    def end(self) -> None:
        """What was going on is over. If it was too short for a look, there is one now."""
        if self._key is None:
            return
        if self._key != IDLE and not self._seen:
            self._next_glance = self._since
            self.tick()
        for index, meter in self._working():
            tally = self._tally(index)
            tally.seconds += self._clock() - self._since
            if meter.counts:
                self._count(index, meter)
        self._key = None

    def wait_s(self) -> float:
        """Seconds until the next look is due."""
        if self._key is None:
            return PERIOD_S
        due = min(self._next_glance, self._next_power) if self._has_watts() else self._next_glance
        return max(0.0, due - self._clock())

    def tick(self) -> None:
        """Look, where a look is due."""
        if self._key is None:
            return
        began = self._clock()
        if began >= self._next_power and self._has_watts():
            self._next_power = began + POWER_PERIOD_S
            for index, meter in self._working():
                if not meter.counts:
                    value = self._read(index, meter)
                    if value is not None:
                        self._tally(index).watts.append(value)
        if began >= self._next_glance:
            self._next_glance = began + PERIOD_S
            for index, meter in self._working():
                if meter.counts:
                    self._count(index, meter)
            powers = [self._recent(index) for index in range(len(self._meters))]
            self._looks.append((began, self._key, self._probe.glance(), powers))
            self._ticks, self._seen = self._ticks + 1, True
        self._cost_s += self._clock() - began

    @property
    def cost_ms(self) -> float | None:
        """Mean milliseconds that the parent spends on watching, a glance; None: there was none."""
        return 1e3 * self._cost_s / self._ticks if self._ticks else None

    def glances(self, key: str | None = None) -> list[Glance]:
        """Everything seen under `key`, or under any key but idle."""
        return [glance for _, of, glance, _ in self._looks if (of == key if key is not None else of != IDLE)]

    def trace(self, key: str, on_gpu: bool) -> list[dict[str, Any]]:
        """What was seen under `key`, one row a glance, with the power that a runtime of that processor shows up in."""
        meter = choose_meter(self._meters, on_gpu)
        index = self._meters.index(meter) if meter is not None else None
        return [
            {
                "at_s": round(at - self._origin, 3),
                "clock_mhz": glance.clock_mhz,
                "gpu_clock_mhz": glance.gpu_clock_mhz,
                "temp_c": glance.temp_c,
                "power_w": powers[index] if index is not None else None,
                "throttled": held_back([glance.throttle])[0],
            }
            for at, of, glance, powers in self._looks
            if of == key
        ]

    def energy(self, key: str, on_gpu: bool) -> dict[str, Any]:
        """Mean power under `key` and idle, and what measured it; `unavailable` says why a number is absent."""
        meter = choose_meter(self._meters, on_gpu)
        if meter is None:
            there = [
                f"{other.source} sees the {'GPU' if other.of_gpu else 'processor'} alone" for other in self._meters
            ]
            return {"unavailable": "; ".join([*self._reasons, *there])}
        index = self._meters.index(meter)
        found: dict[str, Any] = {"source": meter.source, "rails": list(meter.rails), "note": meter.note}
        if index in self._failed:
            return dict(found, unavailable=self._failed[index])
        load_w, idle_w = self._mean_w(index, key), self._mean_w(index, IDLE)
        found.update(load_w=load_w, idle_w=idle_w)
        if load_w is None:
            found["unavailable"] = "too few readings of the meter while it ran: set a longer duration_s"
        elif idle_w is None:
            found["unavailable"] = "idle power was not measured: set idle_s to a few seconds"
        return found

    def stop(self) -> None:
        """End meters that run as a command."""
        for meter in self._meters:
            stop = getattr(meter, "stop", None)
            if stop is not None:
                stop()

    def _working(self) -> list[tuple[int, Meter]]:
        return [(index, meter) for index, meter in enumerate(self._meters) if index not in self._failed]

    def _has_watts(self) -> bool:
        return any(not meter.counts for _, meter in self._working())

    def _tally(self, index: int) -> _Tally:
        assert self._key is not None
        return self._tallies.setdefault((index, self._key), _Tally())

    def _read(self, index: int, meter: Meter) -> float | None:
        try:
            value = meter.read()
        except MeterError as err:
            self._failed[index] = str(err)
            return None
        if meter.counts:
            self._counts[index] = value
        return value

    def _count(self, index: int, meter: Meter) -> None:
        before = self._counts.get(index)
        now = self._read(index, meter)
        if before is not None and now is not None:
            self._tally(index).joules += now - before

    def _recent(self, index: int) -> float | None:
        """Watts for the trace: the last reading; of a counter, the mean since this round began."""
        if index in self._failed:
            return None
        tally = self._tally(index)
        if not self._meters[index].counts:
            return tally.watts[-1] if tally.watts else None
        seconds = tally.seconds + self._clock() - self._since
        return tally.joules / seconds if seconds >= _LEAST_SECONDS else None

    def _mean_w(self, index: int, key: str) -> float | None:
        tally = self._tallies.get((index, key))
        if tally is None:
            return None
        if self._meters[index].counts:
            return tally.joules / tally.seconds if tally.seconds >= _LEAST_SECONDS else None
        return sum(tally.watts) / len(tally.watts) if len(tally.watts) >= _LEAST_READINGS else None
