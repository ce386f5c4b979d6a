"""How a device is reached. One file per transport; `table.py` lists them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from edgekit.errors import DeviceError


class LinkError(DeviceError):
    """The device was not to be reached, or no longer. What it did may still go on there; trying again may help."""


@dataclass(frozen=True)
class Completed:
    """A command that ended on a device. `returncode` is -N when signal N ended it."""

    returncode: int
    stdout: str
    stderr: str


class Transport(Protocol):
    """Reaches one device. Methods block, and raise DeviceError for anything the network or the board did.

    Attributes:
        python: what starts Python >= 3.8 there.
        link: whether there is a link that can be lost, so that a job must be able to outlive it.
    """

    python: str
    link: bool

    def push(self, local: Path, remote: PurePosixPath) -> None:
        """Copy a file to the device; what arrived is checked by its digest wherever a link is between."""
        ...

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """Copy a file from the device, checked likewise."""
        ...

    def run(self, argv: Sequence[str], *, timeout_s: float, on_line: Callable[[str], None] | None = None) -> Completed:
        """Run a command there and wait for it. After `timeout_s` it is ended, with all that it started.

        Args:
            argv: program and arguments; no shell reads them.
            timeout_s: from its start.
            on_line: gets every line of standard output as it comes.
        """
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...
