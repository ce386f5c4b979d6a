"""A simulated board: a folder of this machine as its disk, the real agent, and a script of what happens to it.

For tests of a user's own pipeline where no board is. Nothing that it tells was measured: profiles from it are
stand-ins, their runtime is called `simulated`, and they pass no latency gate.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from edgekit.agent.runtimes.simulated import write_conditions
from edgekit.devices.process import run_process
from edgekit.devices.transport import Completed, LinkError
from edgekit.errors import DeviceError
from edgekit.schema.device import Device
from edgekit.schema.simulated import Lost, Simulation


class SimulatedTransport:
    """Runs commands as subprocesses whose temporary folder is the board's disk; faults come as the script says.

    Args:
        device: its `simulate` is the script.
        sleep: for the slow link.
        clock: seconds, for links that are lost for a time.
    """

    link = True  # so that jobs are begun and followed as on a board over ssh, through lost links

    def __init__(
        self,
        device: Device,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if device.simulate is None:
            raise DeviceError("no script", f"device {device.name}", "give it a section `simulate` in devices.yaml")
        self.python = device.python or sys.executable
        self._script: Simulation = device.simulate
        self._device, self._where, self._sleep = device, f"device {device.name}, simulated", sleep
        self._clock, self._reached_s = clock, clock()
        self._lost_s: dict[int, float] = {}  # index in the script -> when it began
        self._answered: set[int] = set()
        self._made: tempfile.TemporaryDirectory[str] | None = None
        if self._script.folder is None:
            self._made = tempfile.TemporaryDirectory(prefix="edgekit-board-", ignore_cleanup_errors=True)
        self._board = Path(self._made.name if self._made else self._script.folder or "").resolve()
        make_board(self._board, device)

    def push(self, local: Path, remote: PurePosixPath) -> None:
        """See `Transport.push`. A job's runtimes become `simulated` ones, as the board has no others."""
        lost = self._command()
        content = _read(local)
        if _is_job(remote):
            content = json.dumps(self._simulated(json.loads(content))).encode()
        self._wait(len(content))
        free = self._free_bytes(Path(remote))
        if free is not None and len(content) > free:
            raise DeviceError(
                f"{local.name} did not arrive as it is here: No space left on device; {free / 1e6:.1f} MB are free",
                f"{self._where}, {remote.parent}",
                "make room on the board, or check its storage",
            )
        self._inside(remote).write_bytes(content)
        self._answer(lost)

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """See `Transport.pull`."""
        lost = self._command()
        path = self._inside(remote)
        if not path.is_file():
            raise DeviceError(f"there is no {remote}", self._where, "see whether the job ended as it should")
        content = path.read_bytes()
        self._wait(len(content))
        if self._script.answers == "cut" and remote.name.startswith("result"):
            content = content[: len(content) // 2]
        local.write_bytes(content)
        self._answer(lost)

    def run(self, argv: Sequence[str], *, timeout_s: float, on_line: Callable[[str], None] | None = None) -> Completed:
        """See `Transport.run`."""
        lost = self._command()
        self._wait(0)
        environment = {**os.environ, "TMPDIR": str(self._board / "tmp")}
        try:
            done = run_process(argv, timeout_s=timeout_s, on_line=None if lost else on_line, environment=environment)
        except OSError as err:  # what a board's shell says of it
            return Completed(127, "", f"{argv[0]}: {err.strerror}")
        except subprocess.TimeoutExpired as err:
            raise DeviceError(
                f"no reply in {timeout_s:g} s",
                f"{self._where}, running {' '.join(argv)}",
                "see whether the board is busy, out of memory, or whether the artifact runs at all",
            ) from err
        self._answer(lost)
        return done

    def close(self) -> None:
        """See `Transport.close`."""
        if self._made is not None:
            self._made.cleanup()

    def _command(self) -> bool:
        """Count a command. It fails where the link is lost; True: it is carried out, and its answer is lost."""
        counter = self._board / "commands"
        count = int(counter.read_text(encoding="ascii")) + 1
        counter.write_text(str(count), encoding="ascii")
        for index, lost in enumerate(self._script.lost):
            if self._is_lost(index, lost, count):
                if lost.answer_only and index not in self._answered:
                    self._answered.add(index)
                    return True
                raise self._link_error(count)
        return False

    def _is_lost(self, index: int, lost: Lost, count: int) -> bool:
        if lost.at_command is not None and lost.for_s is None:
            return lost.at_command <= count < lost.at_command + lost.for_commands
        now_s = self._clock()
        begins = count == lost.at_command if lost.at_s is None else now_s - self._reached_s >= lost.at_s
        if begins:
            self._lost_s.setdefault(index, now_s)
        return index in self._lost_s and now_s < self._lost_s[index] + (lost.for_s or 0.0)

    def _answer(self, lost: bool) -> None:
        if lost:
            raise self._link_error(int((self._board / "commands").read_text(encoding="ascii")))

    def _link_error(self, count: int) -> LinkError:
        return LinkError(
            f"the link is lost: scripted at command {count}",
            self._where,
            "check that it is on, on the network, and runs sshd",
        )

    def _wait(self, size_bytes: int) -> None:
        if self._script.link is not None:
            self._sleep(self._script.link.round_trip_s + size_bytes / self._script.link.bytes_per_s)

    def _free_bytes(self, remote: Path) -> int | None:
        if self._script.disk_bytes is None:
            return None
        files = [path for path in (self._board / "tmp").rglob("*") if path.is_file() and path != remote]
        return max(0, self._script.disk_bytes - sum(path.stat().st_size for path in files))

    def _inside(self, remote: PurePosixPath) -> Path:
        """A path of the board, which is one of this machine below the board's folder."""
        path = Path(remote)
        if not path.is_relative_to(self._board):
            raise DeviceError(f"{remote} is not on the board", self._where, "use paths below what mktemp gave")
        return path

    def _simulated(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """A job with `simulated` around its runtimes, and with the board's own files for sensors."""
        changed = {**job, "root": str(self._board / "root")}
        if "runtime" in job:
            changed.update(self._around(job))
        if "cases" in job:
            changed["cases"] = [{**case, **self._around(case)} for case in job["cases"]]
        return changed

    def _around(self, case: Mapping[str, Any]) -> dict[str, Any]:
        options = {
            "runtime": case["runtime"],
            "options": case.get("options", {}),
            "script": self._script.model_dump(mode="json", exclude={"folder"}),
            "board": str(self._board),
        }
        return {"runtime": "simulated", "options": options}


def make_board(folder: Path, device: Device) -> None:
    """The board's disk, clock, and files for sensors; what is there already stays."""
    assert device.simulate is not None
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    if (folder / "clock").exists():
        return
    root = folder / "root"
    for processor in range(os.cpu_count() or 1):
        frequency = root / f"sys/devices/system/cpu/cpu{processor}/cpufreq"
        frequency.mkdir(parents=True, exist_ok=True)
        (frequency / "scaling_governor").write_text("simulated\n", encoding="ascii")
    for path in ("sys/class/thermal/thermal_zone0", "sys/devices/platform/soc/soc:firmware", "proc/device-tree", "etc"):
        (root / path).mkdir(parents=True, exist_ok=True)
    (root / "sys/class/thermal/thermal_zone0/type").write_text("cpu-thermal\n", encoding="ascii")
    (root / "proc/device-tree/model").write_text(f"simulated {device.target}\0", encoding="ascii")
    (root / "proc/cpuinfo").write_text(f"model name\t: simulated {device.target}\n", encoding="ascii")
    (root / "etc/machine-id").write_text(f"simulated-{device.name}\n", encoding="ascii")
    write_conditions(root, device.simulate.phases[0].model_dump())
    (folder / "commands").write_text("0", encoding="ascii")
    (folder / "clock").write_bytes(bytes(8))


def _is_job(remote: PurePosixPath) -> bool:
    return remote.name.startswith("job") and remote.suffix == ".json"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise DeviceError(f"cannot read {path}: {err}", "this machine", "check that the file exists") from err
