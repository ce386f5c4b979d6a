"""`edgekit doctor`: what this machine has, what it lacks, and the exact command that mends it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Literal

import click
import psutil
from rich.text import Text

from edgekit import __version__
from edgekit.cli import complete
from edgekit.cli.output import console, counted, json_option, print_json, table
from edgekit.devices.checks import Check
from edgekit.errors import EdgekitError
from edgekit.schema.device import Device
from edgekit.schema.find import names, shipped_folder
from edgekit.schema.load import load_devices, load_target
from edgekit.store.place import profile_database

MIN_DISK_BYTES = 2 * 10**9  # a build keeps every step's weights and both formats' scratch files
MIN_MEMORY_BYTES = 2 * 10**9  # PyTorch and the TFLite converter together, with a small network
ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn")
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?[^;]*(?:;(.*))?$")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


@click.command()
@click.option(
    "--device",
    "device_name",
    shell_complete=complete.devices,
    help="A board of devices.yaml to check instead of this machine.",
)
@json_option
@click.pass_context
def doctor(ctx: click.Context, device_name: str | None, as_json: bool) -> None:
    """Check this machine or a board, and say how to fix what is wrong. Exit code 1 if something is broken."""
    if device_name is None:
        checks = examine()
        print_checks(f"edgekit {__version__}", checks, {"edgekit": __version__}, as_json)
    else:
        from edgekit.pipeline.request import find_device

        checks = diagnose_device(find_device(device_name), as_json=as_json)
    ctx.exit(1 if any(check.state == "broken" for check in checks) else 0)


def diagnose_device(device: Device, *, as_json: bool = False) -> list[Check]:
    """Examine a board and print the report; the checks.

    Raises:
        DeviceError: the board cannot be reached.
    """
    from edgekit.devices.diagnosis import diagnose  # brings the transports, which this machine's report does not need

    others = measured_boards(device) if device.transport == "ssh" else {}
    checks = diagnose(device, load_target(device.target, allow_override=True).target, others=others)
    print_diagnosis(device, checks, as_json=as_json)
    return checks


def measured_boards(device: Device) -> dict[str, str]:
    """Identity of every machine in the history -> the device that it was measured as; without `device` itself."""
    place = profile_database()
    if "://" not in str(place) and not Path(place).exists():  # opening it would make it
        return {}
    from edgekit.store.database import Database
    from edgekit.store.history import read_history

    database = Database(place)
    try:
        lines = read_history(database)
    finally:
        database.close()
    return {line.identity: line.device for line in lines if line.identity and line.device != device.name}


def print_diagnosis(device: Device, checks: Sequence[Check], *, as_json: bool = False) -> None:
    """The report on a board: a table and the fixes, or one JSON document."""
    stand_in = f", stands in for {device.stand_in_for}" if device.stand_in_for else ""
    simulated = " simulated" if device.transport == "simulated" else ""
    document = {
        "edgekit": __version__,
        "device": device.name,
        "target": device.target,
        "transport": device.transport,
        "stand_in_for": device.stand_in_for,
    }
    print_checks(f"{simulated} device {device.name}, {device.target}{stand_in}".strip(), checks, document, as_json)


def print_checks(title: str, checks: Sequence[Check], document: Mapping[str, object], as_json: bool) -> None:
    """A table of checks with the fixes below it; or `document` with the checks in it as JSON."""
    if as_json:
        print_json({**document, "checks": [asdict(check) for check in checks]})
        return
    out = console()
    out.print(table(title, ("check", "state", "found"), [(c.name, c.state, c.found) for c in checks]))
    for check in checks:
        if check.fix:
            out.print(Text(f"{check.name}: {check.fix}"), soft_wrap=True)


def examine() -> list[Check]:
    """Every check on this machine, in the order of the report."""
    versions = _installed()
    requirements = metadata.requires("edgekit") or []
    return [
        check_python(sys.version_info[:3]),
        *check_requirements(requirements, versions),
        check_onnxruntimes(versions),
        check_shipped(),
        check_disk(shutil.disk_usage(Path.cwd()).free),
        check_memory(psutil.virtual_memory().available),
        check_cpu(platform.machine(), _cpu_flags(Path("/proc/cpuinfo"))),
        check_data(os.environ.get("EDGEKIT_DATA")),
    ]


def check_python(version: tuple[int, int, int]) -> Check:
    """Python must be 3.11, 3.12 or 3.13."""
    found = ".".join(map(str, version))
    if (3, 11) <= version[:2] <= (3, 13):
        return Check("python", "ok", found)
    return Check("python", "broken", found, "make a virtual environment with Python 3.11, 3.12 or 3.13")


def check_requirements(requirements: Iterable[str], versions: Mapping[str, str]) -> list[Check]:
    """One line for the core, one for each extra: what is installed, and how to install what is not."""
    wanted: dict[str, list[str]] = {}
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match is None or match[1] == "edgekit":  # an extra that is made of other extras
            continue
        extra = _EXTRA.search(match[3] or "")
        wanted.setdefault(extra[1] if extra else "", []).append(_canonical(match[1]))
    checks = []
    shared = set(wanted.get("torch", ()))  # in nearly every extra: listed once
    for extra_name, libraries in wanted.items():
        if extra_name == "all":
            continue
        if extra_name != "torch":
            libraries = [library for library in libraries if library not in shared]
        present = [f"{name} {versions[name]}" for name in libraries if name in versions]
        missing = [name for name in libraries if name not in versions]
        name = f"extra {extra_name}" if extra_name else "core libraries"
        found = ", ".join(present + [f"no {library}" for library in missing])
        if not missing:
            checks.append(Check(name, "ok", found))
        elif extra_name:
            checks.append(Check(name, "absent", found, f"pip install 'edgekit[{extra_name}]'"))
        else:
            checks.append(Check(name, "broken", found, f"pip install {' '.join(missing)}"))
    return checks


def check_onnxruntimes(versions: Mapping[str, str]) -> Check:
    """Two flavours of ONNX Runtime overwrite each other's files."""
    present = [name for name in ONNXRUNTIMES if name in versions]
    found = ", ".join(f"{name} {versions[name]}" for name in present) or "none"
    if len(present) > 1:
        keep = "onnxruntime-gpu" if "onnxruntime-gpu" in present else present[0]
        fix = f"pip uninstall -y {' '.join(present)} && pip install {keep}"
        return Check("ONNX Runtime", "problem", f"{found}: they share one folder", fix)
    return Check("ONNX Runtime", "ok" if present else "absent", found, "" if present else "pip install 'edgekit[onnx]'")


def check_shipped() -> Check:
    """Every target and the devices file can be read; a shipped one that cannot is a broken installation."""
    targets = []
    for name, path in names("target").items():
        try:
            targets.append(load_target(name, allow_override=True))
        except EdgekitError as error:
            state: Literal["broken", "problem"] = "broken" if path.is_relative_to(shipped_folder()) else "problem"
            return Check("targets and devices", state, f"{path}: {error.what}", error.fix)
    try:
        devices = load_devices().devices.devices
    except EdgekitError as error:
        return Check("targets and devices", "problem", f"{error.where}: {error.what}", error.fix)
    own = sum(target.override is not None for target in targets)
    note = f", {own} of them standing in for shipped ones" if own else ""
    return Check(
        "targets and devices", "ok", f"{counted(len(targets), 'target')}{note}, {counted(len(devices), 'device')}"
    )


def check_disk(free_bytes: int) -> Check:
    """Room for the cache of steps and the bundle."""
    found = f"{free_bytes / 1e9:.1f} GB free in the working directory"
    if free_bytes >= MIN_DISK_BYTES:
        return Check("disk", "ok", found)
    return Check(
        "disk", "problem", found, f"free {(MIN_DISK_BYTES - free_bytes) / 1e9:.1f} GB, or work on another disk"
    )


def check_memory(available_bytes: int) -> Check:
    """Room for PyTorch and a converter."""
    found = f"{available_bytes / 1e9:.1f} GB available"
    if available_bytes >= MIN_MEMORY_BYTES:
        return Check("memory", "ok", found)
    return Check("memory", "problem", found, "close other programs, or add swap: an export may be killed")


def check_cpu(machine: str, flags: frozenset[str]) -> Check:
    """Whether the CPU multiplies 8-bit numbers without saturating, which decides the convention to measure with."""
    if machine in {"x86_64", "AMD64"}:
        known = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx_vnni") if flag in flags]
        found = f"{machine}: {', '.join(known) or 'no AVX2'}"
        if {"avx512_vnni", "avx_vnni"} & flags:
            return Check("cpu", "ok", found)
        fix = "copy targets/cpu-x86-64.yaml under another name with int8_dot: false and convention: onnxruntime-x86"
        return Check("cpu", "problem", f"{found}; no VNNI, so 8-bit sums may saturate", fix)
    if machine in {"aarch64", "arm64"}:
        if not flags or "asimddp" in flags:
            return Check("cpu", "ok", f"{machine}: {'dot product' if flags else 'features not listed by this system'}")
        fix = "copy targets/cpu-arm64.yaml under another name with int8_dot: false"
        return Check("cpu", "problem", f"{machine}: no dot product (asimddp)", fix)
    return Check("cpu", "problem", machine, "edgekit measures on x86-64 and 64-bit Arm; build with --no-measure here")


def check_data(folder: str | None) -> Check:
    """EDGEKIT_DATA, which recipes over data sets that are not shipped refer to."""
    if not folder:
        fix = "export EDGEKIT_DATA=/path/to/data, if a recipe asks for it; the quickstart does not"
        return Check("EDGEKIT_DATA", "absent", "not set", fix)
    path = Path(folder)
    if not path.is_dir():
        return Check("EDGEKIT_DATA", "problem", f"{folder} is not a folder", "correct it, or unset EDGEKIT_DATA")
    entries = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in path.iterdir())
    more = f" and {len(entries) - 8} more" if len(entries) > 8 else ""
    return Check("EDGEKIT_DATA", "ok", f"{folder}: {', '.join(entries[:8]) or 'empty'}{more}")


def _installed() -> dict[str, str]:
    return {_canonical(dist.name): dist.version for dist in metadata.distributions() if dist.name}


def _canonical(name: str) -> str:
    """PEP 503: `Foo_Bar` and `foo-bar` are one project."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _cpu_flags(cpuinfo: Path) -> frozenset[str]:
    """Flags of the first CPU; empty where the system has no such file."""
    if not cpuinfo.is_file():
        return frozenset()
    match = re.search(
        r"^(?:flags|Features)\s*:(.*)$", cpuinfo.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
    )
    return frozenset(match[1].split()) if match else frozenset()
