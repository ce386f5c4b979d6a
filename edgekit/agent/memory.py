"""Memory of this process."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def rss_bytes(proc: Path = Path("/proc/self")) -> int | None:
    """Resident size now; None where /proc does not tell it."""
    return _status_bytes(proc, "VmRSS")


def peak_rss_bytes(proc: Path = Path("/proc/self")) -> int:
    """Largest resident size of this process so far.

    /proc/self/status first: on Linux ru_maxrss survives exec, so a small process started by a large one would report
    its parent's peak.
    """
    peak = _status_bytes(proc, "VmHWM")
    if peak is not None:
        return peak
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def _status_bytes(proc: Path, key: str) -> int | None:
    try:
        lines = (proc / "status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024  # the kernel writes kB and means KiB
    return None
