"""A board over ssh, through the system's OpenSSH client.

So whatever ~/.ssh/config, its agent, certificates, ProxyJump and known_hosts say holds here too. Host keys are strict
and nothing is ever asked: a board that is not known yet is an error that says how to get to know it. One connection is
opened and shared by everything that follows.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from edgekit.devices.process import run_process
from edgekit.devices.ssh_errors import explain
from edgekit.devices.transport import Completed, LinkError
from edgekit.errors import DeviceError
from edgekit.schema.device import Device

CONNECT_TIMEOUT_S = 10
_ALIVE_EVERY_S, _ALIVE_MISSED = 5, 3  # a dead link is noticed after 15 s
_IDLE_S = 120  # a shared connection that nobody closed ends by itself
_SHORT_S = 60.0
_SLOWEST_BYTES_PER_S = 64 * 1024  # a copy slower than this is taken for a dead one
_GRACE_S = 30.0  # of the client over the limit that the board keeps itself
_FAILED = 255  # ssh's own exit status; a command's passes through

_log = logging.getLogger(__name__)


class SshTransport:
    """One board through one shared connection, which the first use opens.

    Raises:
        DeviceError: there is no OpenSSH client here.
    """

    link = True

    def __init__(self, device: Device) -> None:
        assert device.address is not None  # the schema sees to it
        self.python = device.python or "python3"
        self._where = f"device {device.name}"
        self._device = device
        self._host = device.address
        for program in ("ssh", "sftp"):
            if shutil.which(program) is None:
                raise DeviceError(
                    f"there is no {program} on this machine", self._where, "install OpenSSH's client: openssh-client"
                )
        self._folder: Path | None = None  # of the connection's socket

    def push(self, local: Path, remote: PurePosixPath) -> None:
        """See `Transport.push`. What a lost link left half done is continued, not begun again."""
        wanted = _digest(local)
        there = self._digest_there(remote)
        if there == wanted:
            return
        limit_s = _SHORT_S + local.stat().st_size / _SLOWEST_BYTES_PER_S
        source, destination = _quoted(local), _quoted(remote)
        if there is not None and self._sftp(f"reput {source} {destination}", limit_s).returncode == 0:
            there = self._digest_there(remote)
        if there != wanted:
            done = self._sftp(f"put {source} {destination}", limit_s)
            there = self._digest_there(remote)
            if done.returncode != 0 or there != wanted:
                raise self._not_copied(local.name, remote, done)

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """See `Transport.pull`."""
        wanted = self._digest_there(remote)
        if wanted is None:
            raise DeviceError(f"there is no {remote}", self._where, "see whether the job ended as it should")
        done = self._sftp(f"get {_quoted(remote)} {_quoted(local)}", _SHORT_S * 60)
        if done.returncode != 0 or _digest(local) != wanted:
            raise DeviceError(
                f"{remote} did not arrive as it is there: {done.stderr.strip()}", self._where, "check the disk here"
            )

    def run(self, argv: Sequence[str], *, timeout_s: float, on_line: Callable[[str], None] | None = None) -> Completed:
        """See `Transport.run`. The board's own `timeout` ends the command there; a dead link cannot keep it."""
        command = shlex.join(["timeout", "-k", "5", f"{max(1, round(timeout_s))}", *argv])
        try:
            done = self._client(["ssh", *self._options(), self._host, command], timeout_s + _GRACE_S, on_line)
        except subprocess.TimeoutExpired as err:
            raise self._lost(f"no reply in {timeout_s:g} s") from err
        if done.returncode == _FAILED:
            found = explain(done.stderr, self._where, self._host)
            if found is not None:
                self._forget()
                raise found
            if not self._connected():  # the shared connection went, and its client says nothing of it
                raise self._lost("the link is lost")
        if done.returncode in (124, 137):  # of `timeout`: ended by TERM, or by KILL after all
            raise DeviceError(
                f"no reply in {timeout_s:g} s" if done.returncode == 124 else "the command was killed",
                f"{self._where}, running {' '.join(argv)}",
                "see whether the board is busy, out of memory, or whether the artifact runs at all",
            )
        return done

    def close(self) -> None:
        """See `Transport.close`."""
        self._forget()

    def _sftp(self, command: str, timeout_s: float) -> Completed:
        with tempfile.NamedTemporaryFile("w", prefix="edgekit-", suffix=".sftp", encoding="utf-8") as batch:
            batch.write(command + "\n")
            batch.flush()
            try:
                host = f"[{self._host}]" if ":" in self._host else self._host  # IPv6: a colon would begin a path
                done = self._client(["sftp", "-q", "-b", batch.name, *self._options(), host], timeout_s, None)
            except subprocess.TimeoutExpired as err:
                raise self._lost(f"copying took over {timeout_s:.0f} s") from err
        if done.returncode != 0:
            found = explain(done.stderr, self._where, self._host)
            if found is not None:
                self._forget()
                raise found
        return done

    def _client(self, argv: Sequence[str], timeout_s: float, on_line: Callable[[str], None] | None) -> Completed:
        _log.debug("%s: %s", self._where, shlex.join(argv))
        # messages are matched, so they must be English
        return run_process(argv, timeout_s=timeout_s, on_line=on_line, environment={**os.environ, "LC_ALL": "C"})

    def _options(self) -> list[str]:
        """Options of every client; opens the shared connection where there is none."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="edgekit-"))  # a socket's path has at most about 100 bytes
            try:
                self._open(self._folder)
            except BaseException:
                self._forget()
                raise
        return [*self._rules(), "-o", f"ControlPath={self._folder / 's'}"]

    def _rules(self) -> list[str]:
        device = self._device
        rules = [] if device.ssh_config is None else ["-F", str(device.ssh_config)]
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": str(CONNECT_TIMEOUT_S),
            "ServerAliveInterval": str(_ALIVE_EVERY_S),
            "ServerAliveCountMax": str(_ALIVE_MISSED),
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "RemoteCommand": "none",
            "RequestTTY": "no",
            **({"User": device.user} if device.user else {}),
            **({"Port": str(device.port)} if device.port else {}),
        }
        return rules + [word for key, value in options.items() for word in ("-o", f"{key}={value}")]

    def _open(self, folder: Path) -> None:
        """Open the shared connection; it stays in the background until it is closed or long unused."""
        log = folder / "log"
        shared = ["-o", "ControlMaster=yes", "-o", f"ControlPath={folder / 's'}", "-o", f"ControlPersist={_IDLE_S}"]
        # its messages go to a file: the process in the background would hold a pipe open
        argv = ["ssh", "-E", str(log), *self._rules(), *shared, self._host, "true"]
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=CONNECT_TIMEOUT_S + _GRACE_S,
                check=False,
                start_new_session=True,  # Ctrl-C must not end the connection that the clean-up needs
                env={**os.environ, "LC_ALL": "C"},
            )
        except subprocess.TimeoutExpired as err:
            raise self._lost(f"no connection in {CONNECT_TIMEOUT_S + _GRACE_S:g} s") from err
        if done.returncode != 0:
            told = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
            found = explain(told, self._where, self._host)
            raise found or DeviceError(
                f"ssh ended with status {done.returncode}: {told.strip()}", self._where, f"try: ssh {self._host} true"
            )

    def _connected(self) -> bool:
        """Whether the shared connection is there."""
        return self._folder is not None and self._control(self._folder, "check")

    def _control(self, folder: Path, order: str) -> bool:
        argv = ["ssh", *self._rules(), "-o", f"ControlPath={folder / 's'}", "-O", order, self._host]
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=CONNECT_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    def _forget(self) -> None:
        """End the shared connection, if there is one. The next use opens another."""
        folder, self._folder = self._folder, None
        if folder is None:
            return
        self._control(folder, "exit")
        shutil.rmtree(folder, ignore_errors=True)

    def _lost(self, what: str) -> LinkError:
        self._forget()
        return LinkError(what, self._where, f"check that it answers `edgekit devices ping {self._device.name}`")

    def _digest_there(self, remote: PurePosixPath) -> str | None:
        done = self.run(["sha256sum", "-b", str(remote)], timeout_s=_SHORT_S * 5)
        return done.stdout.split()[0].lstrip("\\") if done.returncode == 0 else None

    def _not_copied(self, name: str, remote: PurePosixPath, done: Completed) -> DeviceError:
        room = self.run(["df", "-Pk", str(remote.parent)], timeout_s=_SHORT_S).stdout.splitlines()
        columns = room[-1].split() if room else []
        free = f"; {int(columns[3]) / 1e3:.1f} MB are free there" if len(columns) > 3 and columns[3].isdigit() else ""
        return DeviceError(
            f"{name} did not arrive as it is here: {done.stderr.strip() or 'another digest'}{free}",
            f"{self._where}, {remote.parent}",
            "make room on the board, or check its storage",
        )


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as err:
        raise DeviceError(f"cannot read {path}: {err}", "this machine", "check that the file exists") from err


def _quoted(path: Path | PurePosixPath) -> str:
    """As sftp reads a path: in double quotes, where it takes `*`, `?` and `[` for themselves."""
    return '"' + "".join(f"\\{char}" if char in '\\"' else char for char in str(path)) + '"'
