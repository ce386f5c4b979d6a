"""A test board: an arm64 Debian under emulation, behind a real sshd at an address of its own, and its faults.

It shows whether something is right, never how fast it is.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.boards.host import BoardError, call, say, why_not
from tests.boards.keys import Keys
from tests.boards.network import Link, connect
from tests.boards.processes import beside, child_of, signal_all
from tests.boards.recipe import RECIPES
from tests.boards.root import USER, root_of

PORT = 22
DISK_BYTES = 300_000_000
_START_LIMIT_S = 60.0
_FILLER = "var/filler"
_SSHD = r"/usr/sbin/sshd"


@contextmanager
def board(name: str = "bookworm", *, user: str = USER, disk_bytes: int = DISK_BYTES) -> Iterator[Board]:
    """A board that runs until the block ends, or this process does. Its root is made first if it never was.

    Args:
        name: of a recipe.
        user: whom `ssh_config` logs in: "edgekit", who may do little, or "root".
        disk_bytes: that all files written on the board can take; they lie in memory.

    Raises:
        BoardError: it cannot be made; `why_not` tells most reasons beforehand.
    """
    if (reason := why_not()) is not None:
        raise BoardError(reason)
    with root_of(RECIPES[name]) as root, tempfile.TemporaryDirectory(prefix=f"edgekit-{name}-") as folder:
        made = Board(name, root, Path(folder), user=user, disk_bytes=disk_bytes)
        try:
            made.start()
            yield made
        finally:
            made.stop()


class Board:
    """One running board.

    Attributes:
        address, port: where sshd listens.
        alias, ssh_config: `ssh -F ssh_config alias` logs in; it knows the key, the user and the board's host key.
        root: the board's files as this machine sees them, to read and to change. Absolute links in there lead out.
        log: what sshd says.
        changeable_python: a Python on the board whose time of day `change_clock` changes; no other program's changes.
    """

    port = PORT
    changeable_python = "/opt/faketime/bin/python3"

    def __init__(
        self,
        name: str,
        lower: Path,
        folder: Path,
        *,
        user: str = USER,
        disk_bytes: int = DISK_BYTES,
        stays: bool = False,
    ) -> None:
        """Args: `folder` is for keys and settings on this machine; `stays`: it outlives this process."""
        self.name, self.user = name, user
        self.folder, self._lower = folder, lower
        self.log, self._keys = folder / "sshd.log", Keys(folder)
        self.ssh_config = self._keys.config
        self._disk_bytes, self._stays = disk_bytes, stays
        self._holder: subprocess.Popen[str] | None = None
        self._sshd: subprocess.Popen[bytes] | None = None
        self._link: Link | None = None
        self._pid = 0
        self.alias = name

    @property
    def link(self) -> Link:
        """Between this machine and the board."""
        assert self._link is not None  # there is one from start to stop
        return self._link

    @property
    def address(self) -> str:
        """Of the board."""
        return str(self.link.address)

    @property
    def root(self) -> Path:
        """See the class."""
        return Path(f"/proc/{self._pid}/root")

    @property
    def holder_pid(self) -> int:
        """Of the process on this machine that the board ends with."""
        assert self._holder is not None
        return self._holder.pid

    def start(self) -> None:
        """Switch it on, and wait until sshd answers."""
        begun = time.monotonic()
        scratch = self.folder / "scratch"
        scratch.mkdir()
        namespaces = ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--kill-child"]
        # the board dies with the process that wants it, however that ends
        tied = [] if self._stays else ["setpriv", "--pdeathsig", "KILL"]
        inside = [sys.executable, str(Path(__file__).with_name("inside.py"))]
        told = [str(self._lower), str(scratch), str(self._disk_bytes), f"edgekit-{self.name}"]
        with self.log.open("w") as log:
            self._holder = subprocess.Popen(
                [*tied, *namespaces, *inside, *told],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=self._stays,
            )
        assert self._holder.stdout is not None
        with self._holder.stdout as output:
            if output.readline() != "ready\n":
                raise BoardError(f"{self.name} laid no file systems: {self.log.read_text()}")
        self._pid = child_of(self._holder.pid)
        self._link = connect(self._pid)
        self.alias = f"{self.name}-{self.link.interface}"
        self._keys.let_in(self.root, alias=self.alias, address=self.address, port=self.port, user=self.user)
        self.start_sshd()
        say(f"{self.name}: board at {self.address} started in {time.monotonic() - begun:.1f} s")

    def stop(self) -> None:
        """Switch it off for good. Its processes, mounts and network go with its first process."""
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
        if self._sshd is not None:
            self._sshd.wait(30)
        if self._link is not None:
            with suppress(BoardError):  # the kernel may have been quicker
                call(["ip", "link", "delete", self._link.interface])

    def run(self, *argv: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command on the board through ssh, as the remote shell reads it."""
        command = ["ssh", "-F", str(self.ssh_config), "-o", "BatchMode=yes", self.alias, "--", *argv]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s)

    # sshd and processes

    def start_sshd(self) -> None:
        """Start sshd and wait until it answers; see also `kill_sshd`."""
        entered = ["nsenter", "--target", str(self._pid), "--net", "--mount", "--pid", "--uts", "--root", "--wd"]
        with self.log.open("ab") as log:
            self._sshd = subprocess.Popen(
                [*entered, "/usr/sbin/sshd", "-D", "-e"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=self._stays,
            )
        until = time.monotonic() + _START_LIMIT_S
        while not self._answers():
            if self._sshd.poll() is not None or time.monotonic() > until:
                raise BoardError(f"sshd of {self.name} does not answer: {self.log.read_text()[-2000:]}")
            time.sleep(0.1)

    def kill_sshd(self) -> None:
        """End sshd and every connection through it; what was started through them goes on."""
        self.kill(_SSHD)
        assert self._sshd is not None
        self._sshd.wait(30)

    def drop_connections(self) -> None:
        """End every connection; sshd takes new ones."""
        assert self._sshd is not None
        listener = child_of(self._sshd.pid)
        signal_all((pid for pid in self._find(_SSHD) if pid != listener), signal.SIGKILL)

    def kill(self, pattern: str, how: signal.Signals = signal.SIGKILL) -> int:
        """Signal the board's processes whose command line matches, and give their number.

        Raises:
            BoardError: none does.
        """
        found = self._find(pattern)
        if not found:
            raise BoardError(f"no process on {self.name} matches {pattern!r}")
        signal_all(found, how)
        return len(found)

    def processes(self) -> dict[int, str]:
        """Command lines of what runs on the board now, by this machine's process numbers."""
        return beside(self._pid)

    def power_cycle(self) -> None:
        """Kill everything at once, empty /tmp and start anew, as a board that lost its power."""
        signal_all(self.processes(), signal.SIGKILL)
        assert self._sshd is not None
        self._sshd.wait(30)
        for left in (self.root / "tmp").iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        self.start_sshd()

    # the link

    def cut_link(self) -> None:
        """Nothing reaches the board any more, and nobody is told."""
        self.link.down()

    def mend_link(self) -> None:
        """Undo `cut_link`."""
        self.link.up()

    # the disk

    def free_bytes(self) -> int:
        """Space left on the board's disk, which all its folders share."""
        disk = os.statvfs(self.root / "var")
        return disk.f_bavail * disk.f_frsize

    def fill_disk(self, leave_bytes: int = 0) -> None:
        """Fill the disk but for `leave_bytes`; see `free_disk`."""
        self.free_disk()
        with (self.root / _FILLER).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, self.free_bytes() - leave_bytes)

    def free_disk(self) -> None:
        """Undo `fill_disk`."""
        (self.root / _FILLER).unlink(missing_ok=True)

    # keys and clock

    def change_host_key(self) -> None:
        """Give the board another host key, as after its card was written anew; `ssh_config` still expects the old."""
        self._keys.make_host_key(self.root)
        self.kill_sshd()
        self.start_sshd()

    def forget_host_key(self) -> None:
        """Make `ssh_config` know no host key, as before a first login."""
        self._keys.forget()

    def trust_host_key(self) -> None:
        """Make `ssh_config` expect the key that the board has now."""
        self._keys.trust(self.address)

    def change_clock(self, offset_s: float) -> None:
        """Move the time of day, but not the steady clock, of `changeable_python`, also where it runs already."""
        file = self.root / "etc/faketimerc"
        file.with_suffix(".new").write_text(f"{offset_s:+f}\n")
        file.with_suffix(".new").replace(file)

    def heal(self) -> None:
        """Undo every fault, so that the next test finds the board as it was started. Files stay."""
        self.mend_link()
        self.free_disk()
        self.trust_host_key()
        self.change_clock(0)
        if not self._answers():
            self.start_sshd()

    def _find(self, pattern: str) -> Sequence[int]:
        return [pid for pid, line in self.processes().items() if re.search(pattern, line)]

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.address, self.port), timeout=5) as connection:
                connection.settimeout(20)
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False
