"""A PostgreSQL server for tests: private, in a temporary folder, on a Unix socket, gone with whoever started it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.boards.host import BoardError, call, install, say

_PACKAGE = "postgresql"
_INSTALLED = Path("/usr/lib/postgresql")  # Debian keeps each version in a folder of its own, none of them on the PATH
_START_LIMIT_S = 60.0
_OWNER = "edgekit"
# a test's database need not outlive a power cut
_SETTINGS = ("listen_addresses=", "fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB")


def why_not() -> str | None:
    """Why no PostgreSQL can be started here, or None. Changes nothing."""
    if _programs() is not None or (os.geteuid() == 0 and shutil.which("apt-get")):
        return None
    return f"PostgreSQL is not installed, and only root on Debian can install it: apt-get install {_PACKAGE}"


@dataclass(frozen=True)
class Server:
    """A running server; every database of it is empty at first."""

    folder: Path
    programs: Path
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @contextmanager
    def database(self) -> Iterator[str]:
        """URL of a new database for SQLAlchemy, which is dropped in the end, along with whoever still uses it."""
        name = f"test_{next(self._numbers)}"
        at = ["--host", str(self.folder), "--username", _OWNER]
        call([self.programs / "createdb", *at, name])
        try:
            yield f"postgresql+psycopg://{_OWNER}@/{name}?host={self.folder}"
        finally:
            call([self.programs / "dropdb", *at, "--force", name])


@contextmanager
def postgres() -> Iterator[Server]:
    """A server that runs until the block ends, or this process does.

    Raises:
        BoardError: it cannot be had; `why_not` tells most reasons beforehand.
    """
    if _programs() is None:
        install({_PACKAGE})
    programs = _programs()
    if programs is None:
        raise BoardError(f"there is no initdb under {_INSTALLED}, with {_PACKAGE} installed")
    begun = time.monotonic()
    # short: the path of a socket may have 107 characters
    with tempfile.TemporaryDirectory(prefix="edgekit-pg-", dir="/tmp") as name:
        folder = Path(name)
        become: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            user = _unprivileged()
            os.chown(folder, user.pw_uid, user.pw_gid)
            become = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]
        data = folder / "data"
        first = [str(programs / "initdb"), "--pgdata", str(data), "--username", _OWNER, "--auth", "trust", "--no-sync"]
        call([*_as(become), *first, "--encoding", "UTF8", "--locale", "C.UTF-8"], timeout_s=120)
        tied = _as([*become, "--pdeathsig", "QUIT"])
        settings = [part for setting in _SETTINGS for part in ("-c", setting)]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [*tied, programs / "postgres", "-D", data, "-k", folder, *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
            )
        try:
            _wait(process, programs, folder)
            say(f"PostgreSQL started in {time.monotonic() - begun:.1f} s")
            yield Server(folder, programs)
        finally:
            process.send_signal(signal.SIGINT)  # it ends every connection, then itself
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _as(options: Sequence[str]) -> list[str]:
    return ["setpriv", *options] if options else []


def _programs() -> Path | None:
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    versions = sorted(_INSTALLED.glob("*/bin/initdb"), key=lambda file: float(file.parts[-3]))
    return versions[-1].parent if versions else None


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise BoardError("this machine has neither a user postgres nor nobody, and PostgreSQL refuses to run as root")


def _wait(process: subprocess.Popen[bytes], programs: Path, folder: Path) -> None:
    until = time.monotonic() + _START_LIMIT_S
    ready = [
        str(programs / "pg_isready"),
        "--quiet",
        "--host",
        str(folder),
        "--dbname",
        "postgres",
        "--username",
        _OWNER,
    ]
    while subprocess.run(ready).returncode != 0:
        if process.poll() is not None or time.monotonic() > until:
            raise BoardError(f"PostgreSQL does not answer: {(folder / 'log').read_text()[-2000:]}")
        time.sleep(0.05)
