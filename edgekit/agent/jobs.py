"""What the agent can be asked: `infer`, `profile`, `describe`. A job is JSON; its paths are relative to its folder."""

from __future__ import annotations

import os
import platform
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Callable, Mapping

import edgekit
from edgekit.agent.artifacts import library_versions
from edgekit.agent.doctor import doctor
from edgekit.agent.engine import build_engine, compare_passport
from edgekit.agent.errors import AgentError
from edgekit.agent.infer import infer
from edgekit.agent.lease import describe_lease, lease
from edgekit.agent.profile import profile
from edgekit.agent.sensors import ROOT, conditions, read_sensors

Job = Mapping[str, Any]


def describe(job: Job, folder: Path) -> dict[str, Any]:
    """The device: processors, memory, Python, installed runtimes, sensors. Loads no runtime."""
    root = Path(str(job.get("root", ROOT)))
    now = read_sensors(root)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "emulated": emulated(platform.machine(), _cpuinfo()),
        "cpu_count": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "libraries": library_versions(),
        "conditions": conditions(now, now, root),
        "lease": describe_lease(),
    }


def emulated(machine: str, cpuinfo: str) -> str:
    """What says that this program runs in an emulator; empty where nothing does.

    User-mode emulation shows the host's processor in /proc/cpuinfo, whose fields are another architecture's.
    """
    host = {"aarch64": "x86", "armv7l": "x86", "x86_64": "Arm"}.get(machine)
    fields = {line.partition(":")[0].strip() for line in cpuinfo.splitlines()}
    if (host == "x86" and "vendor_id" in fields) or (host == "Arm" and "CPU implementer" in fields):
        return f"{machine} on {host}, by /proc/cpuinfo"
    return ""


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


JOBS: Mapping[str, Callable[[Job, Path], dict[str, Any]]] = {
    "infer": infer,
    "profile": profile,
    "build_engine": build_engine,
    "compare_passport": compare_passport,
    "describe": describe,
    "doctor": doctor,
}


def run_job(
    job: Job, folder: Path, table: Mapping[str, Callable[[Job, Path], dict[str, Any]]] = JOBS
) -> dict[str, Any]:
    """Carry out one job and add the agent's version to its result.

    A job with a `lease` {who, wait_s} has the machine to itself; `wait_s` is the longest wait for that.

    Raises:
        AgentError: no such kind of job, a key is missing, or the job failed.
    """
    kind = str(job.get("kind"))
    if kind not in table:
        raise AgentError(f"no job is of kind {kind!r}", "job, kind", "kinds: {}".format(", ".join(sorted(table))))
    try:
        with lease(str(job["lease"]["who"]), float(job["lease"]["wait_s"])) if "lease" in job else nullcontext():
            result = table[kind](job, folder)
    except KeyError as err:
        raise AgentError(
            f"the job names no {err}",
            f"job of kind {kind}",
            "use the agent that came with this edgekit",
        ) from err
    result["agent_version"] = edgekit.__version__
    return result
