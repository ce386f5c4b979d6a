"""The machine that edgekit runs on, as a device."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from edgekit.devices.transport import Completed
from edgekit.errors import DeviceError
from edgekit.schema.device import Device


class LocalTransport:
    """Runs commands as subprocesses, each in a process group of its own."""

    def __init__(self, device: Device) -> None:
        self.python = sys.executable
        self._name = device.name

    def push(self, local: Path, remote: PurePosixPath) -> None:
        """See `Transport.push`."""
        self._copy(local, Path(remote))

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """See `Transport.pull`."""
        self._copy(Path(remote), local)

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        """See `Transport.run`."""
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as err:
            raise DeviceError(
                f"cannot start {argv[0]}: {err}", f"device {self._name}", "check that it is installed"
            ) from err
        with process:
            try:
                stdout, stderr = process.communicate(timeout=timeout_s)
            except BaseException as err:  # an interrupt too: nothing may go on measuring behind the user's back
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                if isinstance(err, subprocess.TimeoutExpired):
                    raise DeviceError(
                        f"no reply in {timeout_s:g} s",
                        f"device {self._name}, running {' '.join(argv)}",
                        "see whether the machine is busy, or whether the artifact runs at all",
                    ) from err
                raise
        return Completed(process.returncode, stdout, stderr)

    def _copy(self, source: Path, destination: Path) -> None:
        try:
            shutil.copyfile(source, destination)
        except OSError as err:
            raise DeviceError(
                f"cannot copy {source}: {err}",
                f"device {self._name}",
                "check that the file exists and the disk has room",
            ) from err
