"""The passport of a TensorRT engine: from what, how and where it was made, and whether this is that machine.

An engine fits the GPU and the library that it was built with. TensorRT notices some of that when it loads one, and says
little; a passport names every field that differs, before the library is asked.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any, Mapping

_MACHINE = {  # fields that must be equal where an engine is loaded, and what a reader knows them as
    "architecture": "processor architecture",
    "gpu": "GPU",
    "sm": "compute capability (SM)",
    "tensorrt": "TensorRT",
    "cuda_runtime": "CUDA runtime",
    "cuda_driver": "CUDA version of the driver",
    "driver": "NVIDIA driver",
    "l4t": "Jetson Linux (L4T)",
    "jetpack": "JetPack",
}


def here(cuda_facts: Mapping[str, Any], tensorrt_version: str, root: Path = Path("/")) -> dict[str, str | None]:
    """The machine's fields of a passport, as it is now; None: not to be had here.

    Args:
        cuda_facts: of `Cuda.facts`.
        tensorrt_version: of the library.
        root: of the file system.
    """
    return {
        "architecture": platform.machine(),
        "gpu": cuda_facts["gpu"],
        "sm": cuda_facts["sm"],
        "tensorrt": tensorrt_version,
        "cuda_runtime": cuda_facts["cuda_runtime"],
        "cuda_driver": cuda_facts["cuda_driver"],
        "driver": driver_version(root),
        "l4t": l4t_version(root),
        "jetpack": jetpack_version(root),
    }


def passport_differences(passport: Mapping[str, Any], now: Mapping[str, str | None]) -> list[dict[str, str | None]]:
    """Every machine field in which an engine's passport and `here` differ, as [{field, then, now}]; [] is a match.

    A field that the passport lacks counts as None: an engine of unknown origin matches no machine.
    """
    return [
        {"field": label, "then": passport.get(name), "now": now.get(name)}
        for name, label in _MACHINE.items()
        if passport.get(name) != now.get(name)
    ]


def explained(differences: list[dict[str, str | None]]) -> str:
    """The differences in one line: 'TensorRT was 8.6.2, is 10.3.0; ...'."""
    return "; ".join(
        "{} was {}, is {}".format(row["field"], row["then"] or "not available", row["now"] or "not available")
        for row in differences
    )


def driver_version(root: Path = Path("/")) -> str | None:
    """Of NVIDIA's kernel module, such as '535.104.05'."""
    version = _text(root / "sys/module/nvidia/version").strip()
    if version:
        return version
    for line in _text(root / "proc/driver/nvidia/version").splitlines():
        # NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023
        if line.startswith("NVRM version:"):
            words = [word for word in line.split() if word[0].isdigit() and "." in word]
            return words[0] if words else None
    return None


def l4t_version(root: Path = Path("/")) -> str | None:
    """Of Jetson Linux, such as '36.4.3'.

    The file's first line: `# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, ...`.
    """
    first = _text(root / "etc/nv_tegra_release").partition("\n")[0]
    release, _, rest = first.lstrip("# ").partition(" ")
    revision = rest.partition("REVISION:")[2].partition(",")[0].strip()
    return f"{release[1:]}.{revision}" if release.startswith("R") and revision else None


def jetpack_version(root: Path = Path("/")) -> str | None:
    """Of the package nvidia-jetpack where it is installed, such as '6.2+b77'. A board may do without that package."""
    for entry in _text(root / "var/lib/dpkg/status").split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in entry.splitlines() if not line.startswith(" "))
        if fields.get("Package") == "nvidia-jetpack" and fields.get("Status", "").endswith(" installed"):
            return fields.get("Version")
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
