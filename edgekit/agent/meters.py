"""The meters of boards: Jetson, Raspberry Pi 5, x86, NVIDIA GPU. Each says what it sums, and what is not in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol, Sequence

from edgekit.agent.nvml import Nvml
from edgekit.agent.sysfs import ROOT, number, output, text

_TOTALS = ("VDD_IN", "POM_5V_IN")  # rails that feed all others: Orin Nano and NX, Xavier NX; Nano
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


class MeterError(Exception):
    """A meter that worked does no longer; the text says how."""


class Meter(Protocol):
    """One source of power readings.

    Attributes:
        source: what it is, for people.
        rails: what it sums.
        note: what is not in it.
        counts: whether `read` gives joules since some moment instead of watts.
        whole_board: whether the work of every processor of the device is in it, the GPU's too.
        of_gpu: whether it is of the GPU alone.
    """

    source: str
    rails: tuple[str, ...]
    note: str
    counts: bool
    whole_board: bool
    of_gpu: bool

    def read(self) -> float:
        """Watts now, or joules so far.

        Raises:
            MeterError: it cannot be read any more.
        """
        ...


class Ina3221:
    """Rails of a Jetson by its INA3221 chips, through hwmon (JetPack 5 and 6) or iio (JetPack 4 and before).

    Where one rail feeds all others it is the power; else the sum of all. Source of the files: NVIDIA Jetson Linux
    Developer Guide, Platform Power and Performance, "Software-Based Power Consumption Modeling".
    """

    source = "INA3221"
    counts = False
    whole_board = True
    of_gpu = False

    def __init__(self, rails: dict[str, tuple[Path, ...]]) -> None:
        total = [name for name in rails if name in _TOTALS]
        self._rails = {name: rails[name] for name in total[:1]} if total else rails
        self.rails = tuple(self._rails)
        self.note = "" if total else "the sum of the module's rails: a carrier board's own consumption is not in it"

    def read(self) -> float:
        """Watts now."""
        return sum(_rail_watts(name, paths) for name, paths in self._rails.items())


class Rapl:
    """Energy counters of x86 processors: packages and their memory, as the kernel's powercap offers them."""

    source = "RAPL"
    note = "processor packages and memory alone: board, disk, fan and power supply are not in it"
    counts = True
    whole_board = False
    of_gpu = False

    def __init__(self, zones: dict[str, Path]) -> None:
        self.rails = tuple(zones)
        self._zones = zones
        self._last = {name: self._microjoules(zone) for name, zone in zones.items()}
        self._sum_uj = 0.0

    def read(self) -> float:
        """Joules since the meter was made. The counters start anew at `max_energy_range_uj`; one such is noticed."""
        for name, zone in self._zones.items():
            now = self._microjoules(zone)
            delta = now - self._last[name]
            if delta < 0:
                delta += number(zone / "max_energy_range_uj") or 0.0
            self._sum_uj += max(delta, 0.0)
            self._last[name] = now
        return self._sum_uj / 1e6

    def _microjoules(self, zone: Path) -> float:
        value = number(zone / "energy_uj")
        if value is None:
            raise MeterError(f"{zone.name}/energy_uj cannot be read")
        return value


class Pmic:
    """Rails of a Raspberry Pi 5 by its power management chip, `vcgencmd pmic_read_adc`: voltage x current of each."""

    source = "PMIC of the Raspberry Pi 5"
    note = "the input EXT5V has no current sensor: USB devices and the chip's own losses are not in it"
    counts = False
    whole_board = True
    of_gpu = False

    def __init__(self, rails: Sequence[str]) -> None:
        self.rails = tuple(rails)

    def read(self) -> float:
        """Watts now."""
        rails = pmic_rails(output(["vcgencmd", "pmic_read_adc"]))
        if not rails:
            raise MeterError("vcgencmd pmic_read_adc gives no rails")
        return sum(rails.values())


class NvmlMeter:
    """An NVIDIA GPU by its own library: the energy counter where it has one, else the power."""

    source = "NVML"
    note = "the GPU board alone: processor and memory of the host are not in it"
    whole_board = False
    of_gpu = True

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self.rails: tuple[str, ...] = (nvml.name,)
        self.counts = nvml.energy_j() is not None
        if not self.counts and nvml.power_w() is None:
            raise MeterError(f"NVML answers NOT_SUPPORTED for power and energy of {nvml.name}")

    def read(self) -> float:
        """Joules so far, or watts now."""
        value = self._nvml.energy_j() if self.counts else self._nvml.power_w()
        if value is None:
            raise MeterError(f"NVML no longer tells the power of {self._nvml.name}")
        return value


def watts(line: str) -> float | None:
    """The last number of a line that a meter printed; None where it has none."""
    numbers = _NUMBER.findall(line)
    return float(numbers[-1]) if numbers else None


def pmic_rails(printed: str) -> dict[str, float]:
    """Watts of each rail that has both a voltage and a current, from what `vcgencmd pmic_read_adc` prints.

    A line is `VDD_CORE_A current(7)=1.12518000A` or `VDD_CORE_V volt(15)=0.89316150V`; the numbers in brackets of one
    rail differ, so rails are paired by name.
    """
    currents_a: dict[str, float] = {}
    voltages_v: dict[str, float] = {}
    for line in printed.splitlines():
        words = line.split()
        if len(words) != 2 or "=" not in words[1]:
            continue
        value = watts(words[1].partition("=")[2])
        rail, _, kind = words[0].rpartition("_")
        if value is not None and kind in ("A", "V"):
            (currents_a if kind == "A" else voltages_v)[rail] = value
    return {rail: currents_a[rail] * voltages_v[rail] for rail in currents_a if rail in voltages_v}


def _rail_watts(name: str, paths: tuple[Path, ...]) -> float:
    """mW of one file, or mV and mA of two, as watts."""
    values = [number(path) for path in paths]
    product = 1.0
    for value in values:
        if value is None:
            raise MeterError(f"rail {name} cannot be read")
        product *= value / 1e3
    return product


def hwmon_rails(root: Path = ROOT) -> dict[str, tuple[Path, ...]]:
    """Rails of JetPack 5 and 6: in*_label, in*_input in mV, curr*_input in mA. NC is not connected; 7 sums shunts."""
    found: dict[str, tuple[Path, ...]] = {}
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if text(chip / "name") != "ina3221":
            continue
        for label in sorted(chip.glob("in*_label")):
            name, channel = text(label), label.name[2 : -len("_label")]
            paths = (chip / f"in{channel}_input", chip / f"curr{channel}_input")
            if name and name != "NC" and "sum of shunt" not in name and all(number(path) is not None for path in paths):
                found[name] = paths
    return found


def iio_rails(root: Path = ROOT) -> dict[str, tuple[Path, ...]]:
    """Rails of JetPack 4: rail_name_N and in_powerN_input in mW."""
    found: dict[str, tuple[Path, ...]] = {}
    for name_file in sorted((root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*/rail_name_*")):
        channel = name_file.name[len("rail_name_") :]
        power = name_file.with_name(f"in_power{channel}_input")
        name = text(name_file)
        if name and name != "NC" and number(power) is not None:
            found[name] = (power,)
    return found


def rapl_zones(root: Path = ROOT) -> dict[str, Path]:
    """Packages, and memory below them. Cores and graphics are parts of a package; psys would count it twice."""
    found = {}
    for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        name = text(zone / "name")
        if name.startswith("package") or name == "dram":
            found[name if name.startswith("package") else f"{name} ({zone.name})"] = zone
    return found
