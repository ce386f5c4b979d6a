"""Was the device held back? Flags of a Raspberry Pi, counters of x86 and Jetson, cooling states of any kernel."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Sequence

from edgekit.agent.sysfs import ROOT, number, output, text

_RASPBERRY = "sys/devices/platform/soc/soc:firmware/get_throttled"
# Bits 0 to 3: what is so now; 16 to 19: what has been so since boot. Source: Raspberry Pi documentation, vcgencmd.
_BITS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
# Source: NVIDIA Jetson Linux Developer Guide, Jetson Orin, "OC Event Count". Other Jetsons number them otherwise.
_ORIN_EVENTS = {"oc1": "under-voltage", "oc2": "average over-current", "oc3": "instantaneous over-current"}
# Cooling devices that slow a processor down; a fan is one too, and does not.
_SLOWING = ("cpufreq", "throttle", "processor", "devfreq", "powerclamp", "balanced")


@dataclass(frozen=True)
class Throttle:
    """One look. Everything empty: the device tells nothing.

    Attributes:
        flags: of a Raspberry Pi.
        counters: events since boot, by name.
        cooling: state of each cooling device that slows a processor; 0 is none.
        source: where it was read.
    """

    flags: int | None = None
    counters: dict[str, int] = field(default_factory=dict)
    cooling: dict[str, int] = field(default_factory=dict)
    source: str = ""


class ThrottleProbe:
    """Finds the files once, so that a look while something is measured costs little.

    Args:
        processors: whose counters count.
    """

    def __init__(self, root: Path = ROOT, processors: Sequence[int] = ()) -> None:
        self._flags = root / _RASPBERRY
        self._sources: list[str] = []
        self._asks = False
        if self._flags.exists():
            self._sources.append("get_throttled of the kernel")
        elif _ask_firmware() is not None:
            self._asks = True
            self._sources.append("vcgencmd get_throttled")
        self._counters = _counters(root, processors)
        self._cooling = _cooling(root)
        if any(name.startswith("cpu") for name in self._counters):
            self._sources.append("thermal_throttle")
        if any(not name.startswith("cpu") for name in self._counters):
            self._sources.append("soctherm_oc")
        if self._cooling:
            self._sources.append("cooling devices")

    def read(self) -> Throttle:
        """Look now."""
        flags = _ask_firmware() if self._asks else _hexadecimal(text(self._flags))
        return Throttle(flags, _whole(self._counters), _whole(self._cooling), ", ".join(self._sources))


def read_throttle(root: Path = ROOT, processors: Sequence[int] = ()) -> Throttle:
    """One look, with its own search for files."""
    return ThrottleProbe(root, processors).read()


def held_back(readings: Sequence[Throttle]) -> tuple[bool | None, list[str]]:
    """Whether the device was held back between the first and the last of some looks, and how; None: it tells nothing.

    A flag of a Raspberry Pi counts when it is set in any look, or its 'has occurred' bit appears between two.
    """
    flags = [reading.flags for reading in readings if reading.flags is not None]
    known = bool(flags) or any(reading.counters or reading.cooling for reading in readings)
    if not known:
        return None, []
    reasons: list[str] = []
    for bit, name in enumerate(_BITS):
        now = any(value >> bit & 1 for value in flags)
        appeared = any(after >> (16 + bit) & 1 and not before >> (16 + bit) & 1 for before, after in _pairs(flags))
        if now or appeared:
            reasons.append(name)
    names = sorted({name for reading in readings for name in reading.counters})
    for name in names:
        counts = [reading.counters[name] for reading in readings if name in reading.counters]
        if counts[-1] > counts[0]:
            reasons.append(f"{name}: {counts[-1] - counts[0]} times")
    names = sorted({name for reading in readings for name in reading.cooling})
    for name in names:
        if any(reading.cooling.get(name, 0) > 0 for reading in readings):
            reasons.append(f"slowed by {name}")
    return bool(reasons), reasons


def throttled(start: int | None, end: int | None) -> bool | None:
    """Whether flags of a Raspberry Pi say that it was held back between two looks; None: no flags."""
    if start is None or end is None:
        return None
    return held_back([Throttle(start), Throttle(end)])[0]


def _pairs(flags: Sequence[int]) -> list[tuple[int, int]]:
    return list(zip(flags, flags[1:]))


def _counters(root: Path, processors: Sequence[int]) -> dict[str, Path]:
    found = {}
    for processor in processors:
        folder = root / f"sys/devices/system/cpu/cpu{processor}/thermal_throttle"
        for kind in ("core", "package"):
            path = folder / f"{kind}_throttle_count"
            if number(path) is not None:
                found[f"cpu{processor} {kind} over its temperature"] = path
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        for path in sorted(chip.glob("oc*_event_cnt")):
            name = path.name.partition("_")[0]
            meaning = _ORIN_EVENTS.get(name) if _is_orin(root) else None
            found[f"{name} ({meaning})" if meaning else name] = path
    return found


def _is_orin(root: Path) -> bool:
    return "tegra234" in text(root / "proc/device-tree/compatible")


def _cooling(root: Path) -> dict[str, Path]:
    found = {}
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind = text(device / "type")
        if any(word in kind.lower() for word in _SLOWING):
            found[kind if kind not in found else f"{kind} ({device.name})"] = device / "cur_state"
    return found


def _whole(paths: dict[str, Path]) -> dict[str, int]:
    values = {name: number(path) for name, path in paths.items()}
    return {name: int(value) for name, value in values.items() if value is not None}


def _ask_firmware() -> int | None:
    name, _, flags = output(["vcgencmd", "get_throttled"]).strip().partition("=")
    return _hexadecimal(flags) if name == "throttled" else None


def _hexadecimal(digits: str) -> int | None:
    try:
        return int(digits, 16)
    except ValueError:
        return None
