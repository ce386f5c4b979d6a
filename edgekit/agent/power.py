"""Power of the device while it works: which meter to believe, and a meter of the user's own.

Where there is none, `find_meters` says why; nothing is estimated.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Callable, Sequence

from edgekit.agent.meters import (
    Ina3221,
    Meter,
    MeterError,
    NvmlMeter,
    Pmic,
    Rapl,
    hwmon_rails,
    iio_rails,
    pmic_rails,
    rapl_zones,
    watts,
)
from edgekit.agent.nvml import Nvml, NvmlError
from edgekit.agent.sysfs import ROOT, output


class Command:
    """A meter of the user's own: a command that prints watts, one reading a line, until it is ended.

    A line is a number of watts, alone or after a word: `4.93`, `watts 4.93`, `power_w=4.93`.
    """

    counts = False
    whole_board = True
    of_gpu = False
    note = ""

    def __init__(self, argv: Sequence[str]) -> None:
        self.source = f"meter {argv[0]}"
        self.rails: tuple[str, ...] = ("whole device",)
        self._rest = b""
        self._last: float | None = None
        try:
            self._process = subprocess.Popen(
                list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
            )
        except OSError as err:
            raise MeterError(f"the meter {argv[0]} cannot be started: {err}") from err
        assert self._process.stdout is not None
        self._stream = self._process.stdout
        os.set_blocking(self._stream.fileno(), False)

    def read(self) -> float:
        """Mean of the readings since the last call; the last one where there is none since."""
        chunk = self._stream.read()
        lines = (self._rest + (chunk or b"")).split(b"\n")
        self._rest = lines.pop()
        readings = [value for value in (watts(line.decode("utf-8", "replace")) for line in lines) if value is not None]
        if readings:
            self._last = sum(readings) / len(readings)
        elif self._process.poll() is not None:
            raise MeterError(f"the meter ended with status {self._process.returncode}")
        if self._last is None:
            raise MeterError("the meter has printed no reading yet")
        return self._last

    def stop(self) -> None:
        """End the command."""
        self._process.kill()
        self._process.wait()
        self._stream.close()


def find_meters(
    root: Path = ROOT, command: Sequence[str] = (), *, tools: bool = True, nvml: Callable[[], Nvml] = Nvml
) -> tuple[list[Meter], list[str]]:
    """Every meter of this device, the one to prefer first, and why others are not there.

    Args:
        root: below which /sys lies.
        command: the user's own meter; empty: none.
        tools: also ask the commands and libraries of this machine, which know no root.
        nvml: opens the GPU.
    """
    found: list[Meter] = []
    reasons: list[str] = []
    if command:
        try:
            found.append(Command(command))
        except MeterError as err:
            reasons.append(str(err))
    rails = {**hwmon_rails(root), **iio_rails(root)}
    if rails:
        found.append(Ina3221(rails))
    pmic = pmic_rails(output(["vcgencmd", "pmic_read_adc"])) if tools else {}
    if pmic:
        found.append(Pmic(sorted(pmic)))
    try:
        found += [NvmlMeter(nvml())] if tools else []
    except NvmlError:
        pass  # no NVIDIA GPU, which needs no reason
    except MeterError as err:
        reasons.append(str(err))
    zones = rapl_zones(root)
    try:
        if zones:
            found.append(Rapl(zones))
    except MeterError as err:
        reasons.append(f"RAPL: {err}; it may be for root alone")
    if not found and not reasons:
        reasons.append("no power sensor is known here: no INA3221, no PMIC of a Raspberry Pi 5, no RAPL, no NVML")
    return found, reasons


def choose_meter(meters: Sequence[Meter], on_gpu: bool) -> Meter | None:
    """The meter that the work of a runtime shows up in: of the whole board, else of the processor that it runs on."""
    for meter in meters:
        if meter.whole_board or meter.of_gpu == on_gpu:
            return meter
    return None
