"""This machine's view of the processes on a board."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tests.boards.host import BoardError


def beside(first: int) -> dict[int, str]:
    """Command lines of all processes in the process namespace of `first` but itself, by this machine's numbers."""
    ours = os.readlink(f"/proc/{first}/ns/pid")
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile
            if os.readlink(folder / "ns/pid") == ours and int(folder.name) != first:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(folder.name)] = line.decode(errors="replace").strip()
    return found


def child_of(parent: int) -> int:
    """The process that another one started.

    Raises:
        BoardError: there is none.
    """
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # pid (name) state parent ...: the name may hold spaces and brackets
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                return int(folder.name)
    raise BoardError(f"process {parent} has started nothing, or ended")


def signal_all(pids: Iterable[int], how: signal.Signals) -> None:
    """Signal those of them that still are."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, how)
