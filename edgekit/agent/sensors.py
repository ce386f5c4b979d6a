"""The machine as it is now: processor, clocks, temperatures, throttling, load. Unreadable is None, never a guess."""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Sequence

from edgekit.agent.jetson import gpu_clock_file, pinned_clocks, power_mode
from edgekit.agent.sysfs import ROOT, number, text
from edgekit.agent.throttle import Throttle, ThrottleProbe, held_back

__all__ = ["ROOT", "Glance", "Probe", "Reading", "conditions", "cpu_model", "machine_identity", "read_sensors"]

_PROCESSOR_ZONES = ("cpu", "soc", "x86_pkg", "coretemp", "k10temp", "tctl", "package")


@dataclass(frozen=True)
class Glance:
    """What is read while something is measured: little, so that it costs little."""

    clock_mhz: float | None = None
    gpu_clock_mhz: float | None = None
    temp_c: float | None = None
    throttle: Throttle = field(default_factory=Throttle)


@dataclass(frozen=True)
class Reading:
    """One look at the machine."""

    clock_mhz: float | None
    governor: str | None
    temp_c: float | None
    temperatures_c: dict[str, float] = field(default_factory=dict)
    gpu_clock_mhz: float | None = None
    throttle: Throttle = field(default_factory=Throttle)
    load_average: float | None = None
    affinity: tuple[int, ...] = ()


class Probe:
    """Finds the sensors once; then one glance is a few small files.

    The clock is the fastest of the processors that this process may use. The temperature is that of the hottest sensor
    which names the processor, else of the hottest of all.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._affinity = _affinity()
        clocks = [root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq" for cpu in self._affinity]
        self._clocks = [path for path in clocks if number(path) is not None]
        self._gpu = gpu_clock_file(root)
        sensors = _temperature_files(root)
        self._temperatures = [path for name, path in sensors if _of_processor(name)] or [path for _, path in sensors]
        self._throttle = ThrottleProbe(root, self._affinity)

    def glance(self) -> Glance:
        """Look now."""
        temperatures_c = [_celsius(path) for path in self._temperatures]
        known = [value for value in temperatures_c if value is not None]
        gpu_hz = number(self._gpu) if self._gpu is not None else None
        return Glance(
            clock_mhz=_clock_mhz(self._root, self._affinity, self._clocks),
            gpu_clock_mhz=None if gpu_hz is None else gpu_hz / 1e6,
            temp_c=max(known) if known else None,
            throttle=self._throttle.read(),
        )


def read_sensors(root: Path = ROOT) -> Reading:
    """Read every sensor below `root`."""
    glance, affinity = Probe(root).glance(), _affinity()
    return Reading(
        clock_mhz=glance.clock_mhz,
        governor=_governor(root, affinity),
        temp_c=glance.temp_c,
        temperatures_c=_temperatures(root),
        gpu_clock_mhz=glance.gpu_clock_mhz,
        throttle=glance.throttle,
        load_average=_load_average(),
        affinity=affinity,
    )


def conditions(start: Reading, end: Reading, root: Path = ROOT, during: Sequence[Glance] = ()) -> dict[str, Any]:
    """The machine before, during and after a measurement, with the keys of edgekit.schema.profile.Conditions."""
    extra: dict[str, Any] = {"identity": machine_identity(root)}
    board = text(root / "proc/device-tree/model")
    if board:
        extra["board"] = board
    if end.temperatures_c:
        extra["temperatures_c_start"] = start.temperatures_c
        extra["temperatures_c_end"] = end.temperatures_c
    fans = _fans(root)
    if fans:
        extra["fans"] = fans
    looks = [start.throttle, *(glance.throttle for glance in during), end.throttle]
    if end.throttle.flags is not None:
        extra["throttle_flags_start"] = start.throttle.flags
        extra["throttle_flags_end"] = end.throttle.flags
    held, how = held_back(looks)
    return {
        "cpu": cpu_model(root),
        "architecture": platform.machine(),
        "clock_mhz_start": start.clock_mhz,
        "clock_mhz_end": end.clock_mhz,
        "clock_mhz_min": _least(glance.clock_mhz for glance in during),
        "gpu_clock_mhz_start": start.gpu_clock_mhz,
        "gpu_clock_mhz_end": end.gpu_clock_mhz,
        "gpu_clock_mhz_min": _least(glance.gpu_clock_mhz for glance in during),
        "governor": end.governor,
        "power_mode": power_mode(root),
        "clocks_pinned": pinned_clocks(root, end.affinity),
        "temp_c_start": start.temp_c,
        "temp_c_end": end.temp_c,
        "temp_c_max": _greatest(glance.temp_c for glance in during),
        "throttled": held,
        "throttled_by": how,
        "throttle_source": end.throttle.source,
        "load_average": start.load_average,
        "affinity": list(end.affinity),
        "extra": extra,
    }


def cpu_model(root: Path = ROOT) -> str:
    """The processor as /proc/cpuinfo names it; empty where it does not (most Arm kernels)."""
    for line in text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return ""


def machine_identity(root: Path = ROOT) -> str | None:
    """A digest that tells this machine from another one of the same name; None where there is no machine id."""
    machine_id = text(root / "etc/machine-id")
    if not machine_id:
        return None
    return hashlib.sha256(f"{machine_id}\n{cpu_model(root)}".encode()).hexdigest()[:16]


def _affinity() -> tuple[int, ...]:
    if not hasattr(os, "sched_getaffinity"):
        return ()
    return tuple(sorted(os.sched_getaffinity(0)))


def _load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _clock_mhz(root: Path, affinity: tuple[int, ...], files: Sequence[Path]) -> float | None:
    """From cpufreq; where there is none, as /proc/cpuinfo tells it."""
    clocks_mhz = [khz / 1000.0 for khz in (number(path) for path in files) if khz is not None]
    if not clocks_mhz:
        processor = -1
        for line in text(root / "proc/cpuinfo").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "processor" and value.strip().isdigit():
                processor = int(value)
            elif key.strip() == "cpu MHz" and processor in affinity:
                clocks_mhz.append(float(value))
    return max(clocks_mhz) if clocks_mhz else None


def _governor(root: Path, affinity: tuple[int, ...]) -> str | None:
    found = {text(root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor") for cpu in affinity}
    return ", ".join(sorted(found - {""})) or None


def _temperatures(root: Path) -> dict[str, float]:
    """Every plausible sensor by name, in degrees Celsius."""
    found: dict[str, float] = {}
    for name, path in _temperature_files(root):
        value = _celsius(path)
        if value is not None:
            found[name] = max(value, found.get(name, -40.0))
    return found


def _temperature_files(root: Path) -> list[tuple[str, Path]]:
    found = []
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        found.append((text(zone / "type") or zone.name, zone / "temp"))
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        name = text(chip / "name") or chip.name
        for sensor in sorted(chip.glob("temp*_input")):
            label = text(chip / sensor.name.replace("_input", "_label")) or sensor.name[: -len("_input")]
            found.append((f"{name} {label}", sensor))
    return found


def _fans(root: Path) -> dict[str, float]:
    """Every fan: its speed in revolutions a minute, or what drives it in parts of 255, as the kernel offers it."""
    found: dict[str, float] = {}
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        name = text(chip / "name") or chip.name
        for file, unit in (("fan1_input", "rpm"), ("pwm1", "of 255")):
            value = number(chip / file)
            if value is not None:
                found[f"{name}, {unit}"] = value
    return found


def _of_processor(name: str) -> bool:
    return any(word in name.lower() for word in _PROCESSOR_ZONES)


def _celsius(path: Path) -> float | None:
    """None for what is no temperature: a powered-down block of a Jetson reads -256 degrees."""
    millidegrees = number(path)
    plausible = millidegrees is not None and -40_000 < millidegrees < 150_000
    return millidegrees / 1000.0 if plausible and millidegrees is not None else None


def _least(values: Any) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _greatest(values: Any) -> float | None:
    return max((value for value in values if value is not None), default=None)
