"""The machine that edgekit runs on, as a device."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from edgekit.devices.process import run_process
from edgekit.devices.transport import Completed
from edgekit.errors import DeviceError
from edgekit.schema.device import Device


class LocalTransport:
    """Runs commands as subprocesses, each in a process group of its own."""

    link = False

    def __init__(self, device: Device) -> None:
        self.python = device.python or sys.executable
        self._name = device.name

    def push(self, local: Path, remote: PurePosixPath) -> None:
        """See `Transport.push`."""
        self._copy(local, Path(remote))

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """See `Transport.pull`."""
        self._copy(Path(remote), local)

    def run(self, argv: Sequence[str], *, timeout_s: float, on_line: Callable[[str], None] | None = None) -> Completed:
        """See `Transport.run`."""
        try:
            return run_process(argv, timeout_s=timeout_s, on_line=on_line)
        except OSError as err:
            raise DeviceError(
                f"cannot start {argv[0]}: {err}", f"device {self._name}", "check that it is installed"
            ) from err
        except subprocess.TimeoutExpired as err:
            raise DeviceError(
                f"no reply in {timeout_s:g} s",
                f"device {self._name}, running {' '.join(argv)}",
                "see whether the machine is busy, or whether the artifact runs at all",
            ) from err

    def close(self) -> None:
        """See `Transport.close`."""

    def _copy(self, source: Path, destination: Path) -> None:
        try:
            shutil.copyfile(source, destination)
        except OSError as err:
            raise DeviceError(
                f"cannot copy {source}: {err}",
                f"device {self._name}",
                "check that the file exists and the disk has room",
            ) from err
