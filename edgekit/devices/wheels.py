"""Which package of a runtime a board can install, and the command that does.

The table holds, newest first, the releases that a choice can fall on: what `pip index versions --only-binary :all:
--platform manylinux_2_X_ARCHITECTURE --python-version 3.Y` gave for PyPI on 21 November 2026. pip itself would choose a
newer one that came later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edgekit.schema.facts import Facts


@dataclass(frozen=True)
class Wheel:
    """A release of a package with wheels for Python 3.`least` to 3.`most` and glibc 2.`glibc` or newer."""

    version: str
    least: int
    most: int
    glibc: int


_ONNXRUNTIME = (
    Wheel("1.31.1", 11, 13, 28),
    Wheel("1.28.0", 11, 13, 27),
    Wheel("1.23.2", 10, 10, 27),
    Wheel("1.19.2", 8, 9, 27),
    Wheel("1.16.3", 8, 11, 17),
)
_LITERT = (Wheel("2.3.0", 10, 13, 27), Wheel("2.1.0", 9, 9, 27), Wheel("1.4.0", 9, 12, 17))
WHEELS: Mapping[tuple[str, str], tuple[Wheel, ...]] = {
    ("onnxruntime", "aarch64"): _ONNXRUNTIME,
    ("onnxruntime", "x86_64"): _ONNXRUNTIME,
    ("ai-edge-litert", "aarch64"): _LITERT,
    ("ai-edge-litert", "x86_64"): _LITERT,
    ("tflite-runtime", "aarch64"): (Wheel("2.14.0", 8, 11, 34), Wheel("2.13.0", 8, 10, 17)),
    ("tflite-runtime", "x86_64"): (Wheel("2.14.0", 8, 11, 17),),
}


def newest(package: str, facts: Facts, wheels: Mapping[tuple[str, str], tuple[Wheel, ...]] = WHEELS) -> str | None:
    """The newest release of the table that the board's Python and C library can have; None: there is none."""
    python = re.match(r"3\.(\d+)", facts.python.version)
    glibc = re.match(r"glibc 2\.(\d+)", facts.system.libc or "")
    if python is None or glibc is None or facts.python.bits != 64:
        return None
    for wheel in wheels.get((package, facts.system.architecture), ()):
        if wheel.least <= int(python[1]) <= wheel.most and int(glibc[1]) >= wheel.glibc:
            return wheel.version
    return None


def install(facts: Facts, requirement: str) -> str:
    """The command that installs a requirement, as pip takes it, where the agent's Python finds it."""
    python = facts.python
    if python.externally_managed:  # PEP 668: Raspberry Pi OS bookworm, Debian 12, Ubuntu 24.04
        if requirement == "numpy":
            return "sudo apt install -y python3-numpy"
        tool = "" if python.venv else "sudo apt install -y python3-venv && "
        made = f"{tool}python3 -m venv --system-site-packages $HOME/edgekit-env"
        return f"{made} && $HOME/edgekit-env/bin/python -m pip install {requirement}; {python_entry(facts)}"
    if not python.pip:
        return f"sudo apt install -y python3-pip && {python.executable} -m pip install {requirement}"
    return f"{python.executable} -m pip install {requirement}"


def python_entry(facts: Facts) -> str:
    """What devices.yaml must say once there is an environment."""
    return f"then set `python: {facts.access.home}/edgekit-env/bin/python` for this device in devices.yaml"
