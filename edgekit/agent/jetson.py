"""What boards with an NVIDIA Tegra tell besides: GPU clock, power mode, whether the clocks are pinned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Sequence

from edgekit.agent.sysfs import ROOT, number, output, text

# Names of the GPU in the device tree: gm20b (Nano), gp10b (TX2), gv11b (Xavier), ga10b (Orin), or plainly gpu.
_GPU = re.compile(r"gpu|g[mpva]\d\d?[0-9a-f]", re.IGNORECASE)


def gpu_clock_file(root: Path = ROOT) -> Path | None:
    """The file with the GPU's clock in Hz; None where there is no such GPU.

    `gpu.0` links to the GPU on older Jetsons; on others its devfreq device has a name such as 17000000.ga10b or .gpu.
    """
    for device in sorted((root / "sys/class/devfreq").glob("*")):
        name = text(device / "device/of_node/name") or device.name.partition(".")[2] or device.name
        if _GPU.search(name) and number(device / "cur_freq") is not None:
            return device / "cur_freq"
    for path in sorted((root / "sys/devices/gpu.0/devfreq").glob("*/cur_freq")):
        if number(path) is not None:
            return path
    return None


def power_mode(root: Path = ROOT) -> str | None:
    """The mode of nvpmodel; None on other boards. `nvpmodel -q` gives its name, the status file only its number."""
    status = text(root / "var/lib/nvpmodel/status")
    if not status:
        return None
    match = re.search(r"NV Power Mode: *(\S+)", output(["nvpmodel", "-q"]))
    if match:
        return match[1]
    number_of_mode = re.search(r"(\d+)\s*$", status)
    return f"nvpmodel {number_of_mode[1]}" if number_of_mode else None


def pinned_clocks(root: Path, processors: Sequence[int]) -> bool | None:
    """Whether every processor has one clock alone, as `jetson_clocks` sets it; None: no cpufreq here."""
    pinned = []
    for processor in processors:
        folder = root / f"sys/devices/system/cpu/cpu{processor}/cpufreq"
        least, most = number(folder / "scaling_min_freq"), number(folder / "scaling_max_freq")
        if least is not None and most is not None:
            pinned.append(least == most)
    return all(pinned) if pinned else None
