"""Jobs on one device: the agent is carried there once, works in a folder of its own, and leaves nothing behind."""

from __future__ import annotations

import getpass
import hashlib
import json
import logging
import platform
import signal
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, TypeVar

from edgekit.devices.detached import Progress, again, run_detached, tell_progress
from edgekit.devices.table import connect
from edgekit.devices.transport import Completed, LinkError, Transport
from edgekit.devices.zipapp import build_zipapp
from edgekit.errors import DeviceError
from edgekit.schema.device import Device

PATIENCE_S = 120.0  # how long a lost link is tried again; the board ends what nobody follows after 180 s
LEASE_WAIT_S = 3600.0
_SHORT_S = 60.0
_LOG_LINES = 12

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class AgentSession:
    """The agent on one device, ready for jobs.

    Args:
        device: where.
        transport: none: the one that the device names.
        patience_s: how long a lost link is tried again before it is an error.

    Raises:
        DeviceError: the device does not answer, or has no room for a folder.
    """

    def __init__(self, device: Device, transport: Transport | None = None, *, patience_s: float = PATIENCE_S) -> None:
        self.device = device
        self._transport = transport or connect(device)
        self._patience_s = patience_s
        self._folder = PurePosixPath()
        self._there: dict[str, str] = {}  # digests of what was pushed and stays
        self._count = 0
        self._lost = False  # the link is, for good

    def __enter__(self) -> AgentSession:
        try:
            made = self._transport.run(["mktemp", "-d", "-t", "edgekit-XXXXXXXX"], timeout_s=_SHORT_S)
            self._folder = PurePosixPath(made.stdout.strip())
            if made.returncode != 0 or not self._folder.is_absolute():
                raise DeviceError(
                    f"cannot make a folder: {made.stderr.strip()}",
                    f"device {self.device.name}",
                    "check that its /tmp is writable and has room",
                )
            with tempfile.TemporaryDirectory(prefix="edgekit-") as here:
                agent = Path(here) / "agent.pyz"
                agent.write_bytes(build_zipapp())
                self._push("agent.pyz", agent)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    @property
    def transport(self) -> Transport:
        """What reaches the device, for what needs no agent."""
        return self._transport

    def keep(self, name: str, path: Path) -> None:
        """Push a file that later jobs use again, and that stays until the end. Once is enough."""
        with open(path, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if self._there.get(name) != digest:
            self._push(name, path)
            self._there[name] = digest

    def run(
        self,
        job: Mapping[str, Any],
        files: Mapping[str, Path],
        results: Mapping[str, Path],
        *,
        timeout_s: float,
        on_progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Carry out a job.

        Over a link the job runs on without us: a lost link is tried again and the job followed further, so nothing that
        it has done is done twice. Whatever is measured has the machine to itself (`edgekit.agent.lease`).

        Args:
            job: as `edgekit.agent.jobs` takes it; its paths are names in `files`, in `results`, and of what was kept.
            files: name in the folder on the device -> local file, removed there after the job.
            results: name in the folder -> where to put it here, when the job is done.
            timeout_s: of the job alone, without the wait for the board.
            on_progress: gets what the agent tells, field by field.

        Returns:
            What the agent wrote to RESULT.json.

        Raises:
            DeviceError: the device or the job failed, the agent crashed (the signal is named) or took too long.
        """
        self._count += 1
        job_file, result_file = f"job-{self._count}.json", f"result-{self._count}.json"
        python, where = self._python(job), f"device {self.device.name}, job {job['kind']}"
        made = [job_file, *files, *results, *(f"{result_file}{end}" for end in _ENDINGS)]
        waits = LEASE_WAIT_S if "lease" in job else 0.0
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            here = Path(folder)
            (here / "job.json").write_text(json.dumps(job), encoding="utf-8")
            try:
                for name, path in {job_file: here / "job.json", **files}.items():
                    self._push(name, path)
                done = self._carry_out(python, job_file, result_file, timeout_s + waits, on_progress, where)
                result = self._answer(done, result_file, here / "result.json", where)
                for name, path in results.items():
                    self._pull(name, path)
            finally:
                self._remove(made)
        return result

    def _carry_out(
        self, python: str, job_file: str, result_file: str, timeout_s: float, on_progress: Progress | None, where: str
    ) -> Completed:
        """How the agent ended; 0 and 1 mean that it has left an answer."""
        job, result = str(self._folder / job_file), str(self._folder / result_file)
        if not self._transport.link:  # it ends with us
            done = self._transport.run(
                self._agent(python, job, result),
                timeout_s=timeout_s,
                on_line=lambda line: tell_progress(line, on_progress),
            )
        else:
            call = partial(self._agent, python)
            done = self._noticed(
                lambda: run_detached(
                    self._transport, call, job, result, timeout_s, self._patience_s, on_progress, where
                )
            )
        if done.stderr:
            _log.debug("%s: %s", where, done.stderr)
        if done.returncode not in (0, 1):
            raise _crashed(done, where)
        return done

    def _answer(self, done: Completed, result_file: str, path: Path, where: str) -> dict[str, Any]:
        """What the agent wrote; its error as ours."""
        try:
            self._pull(result_file, path)
        except LinkError:
            raise
        except DeviceError as err:
            raise _crashed(done, where) from err
        try:
            result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as err:
            fix = "check the board's storage, and run the same command again"
            raise DeviceError(f"the agent's answer cannot be read: {err}", where, fix) from err
        if "error" in result:
            error = result["error"]
            raise DeviceError(error["what"], f"{where}: {error['where']}", error["fix"])
        return result

    def _agent(self, python: str, *words: str) -> list[str]:
        # -E: a shell's PYTHONPATH must not put another edgekit, or another runtime, before the agent's
        return [python, "-E", str(self._folder / "agent.pyz"), *words]

    def _python(self, job: Mapping[str, Any]) -> str:
        runtimes = {case["runtime"] for case in job.get("cases", ())} | {job.get("runtime", "")}
        pythons = {self.device.python_of.get(name, self._transport.python) for name in runtimes - {""}}
        if len(pythons) > 1:
            raise DeviceError(
                f"runtimes of two environments in one job: {', '.join(sorted(runtimes - {''}))}",
                f"device {self.device.name}, python_of",
                "measure them one after the other",
            )
        return pythons.pop() if pythons else self._transport.python

    def _again(self, action: Callable[[], _T]) -> _T:
        return self._noticed(lambda: again(action, self._patience_s, f"device {self.device.name}"))

    def _noticed(self, action: Callable[[], _T]) -> _T:
        """What `action` gives. Where the link was given up, nothing more is tried there."""
        try:
            return action()
        except LinkError:
            self._lost = True
            raise

    def _push(self, name: str, path: Path) -> None:
        self._again(lambda: self._transport.push(path, self._folder / name))

    def _pull(self, name: str, path: Path) -> None:
        self._again(lambda: self._transport.pull(self._folder / name, path))

    def _remove(self, names: list[str]) -> None:
        if self._lost:
            return
        try:
            argv = ["rm", "-f", "--", *(str(self._folder / name) for name in names)]
            self._transport.run(argv, timeout_s=_SHORT_S)
        except DeviceError as err:
            _log.debug("device %s: %s", self.device.name, err.what)  # the folder goes at the end

    def _leave(self) -> None:
        try:
            if self._lost:
                _log.warning("%s stays on device %s: the link is lost", self._folder, self.device.name)
            elif self._folder.is_absolute():
                self._transport.run(["rm", "-rf", str(self._folder)], timeout_s=_SHORT_S)
        except DeviceError as err:  # a device that is gone has said why already
            _log.warning("%s stays on device %s: %s", self._folder, self.device.name, err.what)
        finally:
            self._transport.close()


_ENDINGS = ("", ".lock", ".out", ".err", ".pid", ".seen", ".status")


def lease_request() -> dict[str, Any]:
    """What a job says of who sends it, when it wants the machine to itself."""
    return {"who": f"{getpass.getuser()}@{platform.node()}", "wait_s": LEASE_WAIT_S}


def _crashed(done: Completed, where: str) -> DeviceError:
    # A shell on the far side of a transport reports a signal as 128 + N; a subprocess as -N.
    number = -done.returncode if done.returncode < 0 else done.returncode - 128
    try:
        how = f"was ended by {signal.Signals(number).name}"
    except ValueError:
        how = f"ended with status {done.returncode} and no result"
    log = "\n".join(done.stderr.strip().splitlines()[-_LOG_LINES:])
    return DeviceError(
        f"the agent {how}",
        where,
        "SIGKILL is usually a lack of memory, SIGILL a runtime built for another processor; "
        f"the end of its log: {log or 'empty'}",
    )
