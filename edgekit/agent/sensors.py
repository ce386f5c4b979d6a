"""The machine as it is now: processor, clocks, temperatures, throttling, load. Unreadable is None, never a guess."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path("/")
_PROCESSOR_ZONES = ("cpu", "soc", "x86_pkg", "coretemp", "k10temp", "tctl", "package")


@dataclass(frozen=True)
class Reading:
    """One look at the machine. `throttle_flags` are the bits of `vcgencmd get_throttled`; Raspberry Pi only."""

    clock_mhz: float | None
    governor: str | None
    temp_c: float | None
    temperatures_c: dict[str, float] = field(default_factory=dict)
    throttle_flags: int | None = None
    load_average: float | None = None
    affinity: tuple[int, ...] = ()


def read_sensors(root: Path = ROOT) -> Reading:
    """Read every sensor below `root`. The clock is the fastest of the processors that this process may use."""
    affinity = _affinity()
    temperatures_c = _temperatures(root)
    return Reading(
        clock_mhz=_clock_mhz(root, affinity),
        governor=_governor(root, affinity),
        temp_c=_processor_temperature(temperatures_c),
        temperatures_c=temperatures_c,
        throttle_flags=_throttle_flags(),
        load_average=_load_average(),
        affinity=affinity,
    )


def conditions(start: Reading, end: Reading, root: Path = ROOT) -> dict[str, Any]:
    """The machine before and after a measurement, with the keys of edgekit.schema.profile.Conditions."""
    extra: dict[str, Any] = {"identity": machine_identity(root)}
    board = _text(root / "proc/device-tree/model")
    if board:
        extra["board"] = board.rstrip("\0")
    if end.temperatures_c:
        extra["temperatures_c_start"] = start.temperatures_c
        extra["temperatures_c_end"] = end.temperatures_c
    if end.throttle_flags is not None:
        extra["throttle_flags_start"] = start.throttle_flags
        extra["throttle_flags_end"] = end.throttle_flags
    return {
        "cpu": cpu_model(root),
        "architecture": platform.machine(),
        "clock_mhz_start": start.clock_mhz,
        "clock_mhz_end": end.clock_mhz,
        "governor": end.governor,
        "temp_c_start": start.temp_c,
        "temp_c_end": end.temp_c,
        "throttled": throttled(start.throttle_flags, end.throttle_flags),
        "load_average": start.load_average,
        "affinity": list(end.affinity),
        "extra": extra,
    }


def throttled(start: int | None, end: int | None) -> bool | None:
    """Whether the flags say that the firmware held the processor back between two readings; None: no flags.

    Bits 0 to 3 say what is so now (under-voltage, capped, throttled, soft temperature limit), bits 16 to 19 what has
    been so since boot. Source: Raspberry Pi documentation, vcgencmd get_throttled.
    """
    if start is None or end is None:
        return None
    newly_seen = (end >> 16) & ~(start >> 16) & 0xF
    return bool((start & 0xF) or (end & 0xF) or newly_seen)


def cpu_model(root: Path = ROOT) -> str:
    """The processor as /proc/cpuinfo names it; empty where it does not (most Arm kernels)."""
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return ""


def machine_identity(root: Path = ROOT) -> str | None:
    """A digest that tells this machine from another one of the same name; None where there is no machine id."""
    machine_id = _text(root / "etc/machine-id").strip()
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


def _clock_mhz(root: Path, affinity: tuple[int, ...]) -> float | None:
    clocks_mhz = []
    for cpu in affinity:
        khz = _number(root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq")
        if khz is not None:
            clocks_mhz.append(khz / 1000.0)
    if not clocks_mhz:
        processor = -1
        for line in _text(root / "proc/cpuinfo").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "processor" and value.strip().isdigit():
                processor = int(value)
            elif key.strip() == "cpu MHz" and processor in affinity:
                clocks_mhz.append(float(value))
    return max(clocks_mhz) if clocks_mhz else None


def _governor(root: Path, affinity: tuple[int, ...]) -> str | None:
    found = set()
    for cpu in affinity:
        governor = _text(root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor").strip()
        if governor:
            found.add(governor)
    return ", ".join(sorted(found)) or None


def _temperatures(root: Path) -> dict[str, float]:
    """Every plausible sensor by name, in degrees Celsius."""
    found: dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        _note(found, _text(zone / "type").strip() or zone.name, _number(zone / "temp"))
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        name = _text(chip / "name").strip() or chip.name
        for sensor in sorted(chip.glob("temp*_input")):
            label = _text(chip / sensor.name.replace("_input", "_label")).strip() or sensor.name[: -len("_input")]
            _note(found, f"{name} {label}", _number(sensor))
    return found


def _note(found: dict[str, float], name: str, millidegrees: float | None) -> None:
    # A powered-down block of a Jetson reads -256 degrees; such a value is no temperature.
    if millidegrees is not None and -40_000 < millidegrees < 150_000:
        found[name] = max(millidegrees / 1000.0, found.get(name, -40.0))


def _processor_temperature(temperatures_c: dict[str, float]) -> float | None:
    """The hottest sensor that names the processor; the hottest of all where none does."""
    of_processor = [
        value for name, value in temperatures_c.items() if any(word in name.lower() for word in _PROCESSOR_ZONES)
    ]
    chosen = of_processor or list(temperatures_c.values())
    return max(chosen) if chosen else None


def _throttle_flags() -> int | None:
    try:
        done = subprocess.run(
            ["vcgencmd", "get_throttled"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    name, _, flags = done.stdout.decode("ascii", "replace").strip().partition("=")
    if done.returncode != 0 or name != "throttled":
        return None
    try:
        return int(flags, 16)
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # absent, or a sensor that refuses to be read
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None
