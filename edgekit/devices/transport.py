"""How a device is reached. One file per transport; `table.py` lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol


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
    """

    python: str

    def push(self, local: Path, remote: PurePosixPath) -> None:
        """Copy a file to the device."""
        ...

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """Copy a file from the device."""
        ...

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        """Run a command there and wait for it. After `timeout_s` it is ended, with all that it started."""
        ...
