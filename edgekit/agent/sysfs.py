"""Files of /sys and /proc, and the small commands of boards. What cannot be read is empty or None, never a guess."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Sequence

ROOT = Path("/")
_TIMEOUT_S = 5.0


def text(path: Path) -> str:
    """Content without blanks at its ends and without the zero byte of the device tree; empty where it is unreadable."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip().rstrip("\0")
    except OSError:  # absent, or a sensor that refuses to be read
        return ""


def number(path: Path) -> float | None:
    """The one number of a file."""
    try:
        return float(text(path))
    except ValueError:
        return None


def output(argv: Sequence[str]) -> str:
    """What a command prints; empty where there is no such command, or it fails or hangs."""
    try:
        done = subprocess.run(
            list(argv), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""
