"""One job at a time on a board: a queue of files that the kernel knows the owners of.

Everyone who wants the board makes a ticket and keeps it locked; a ticket that is not locked has lost its owner and is
swept away, so nothing stale is ever waited for. Whoever has the first ticket and the lock itself works. Tickets are
ordered by the time since the board was switched on: its date may jump.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Callable, Iterator

from edgekit.agent.errors import AgentError
from edgekit.agent.progress import tell

_POLL_S = 0.5
_AGAIN_S = 10.0  # waiting is told again after so long, though the position is the same


def lease_folder() -> Path:
    """Where all users of this machine meet."""
    return Path(tempfile.gettempdir()) / "edgekit-lease"


@contextmanager
def lease(
    who: str, wait_s: float, folder: Path | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Have the machine to oneself.

    Args:
        who: shown to those who wait.
        wait_s: longest wait for it.
        folder: where the tickets lie; None: the machine's.
        clock: seconds since some moment that is the same for all processes.

    Raises:
        AgentError: it was not to be had in `wait_s`, or the folder is not ours to use.
    """
    place = folder or lease_folder()
    _prepare(place)
    ticket = place / f"{int(clock() * 1e6):020d}-{os.getpid()}"
    with _made(ticket) as mine, _opened(place / "lock") as lock:
        fcntl.flock(mine, fcntl.LOCK_EX)
        mine.write(who)
        mine.flush()
        try:
            _wait(ticket, lock, wait_s, clock)
            yield
        finally:
            ticket.unlink()


def _wait(ticket: Path, lock: IO[str], wait_s: float, clock: Callable[[], float]) -> None:
    begun, told, told_at = clock(), -1, 0.0
    while True:
        before = _queue(ticket)
        if not before and _lock(lock):
            return
        now = clock()
        # the first in the queue may wait for one that an older clock put behind it
        holder = _who(before[0]) if before else "another job"
        if now - begun > wait_s:
            raise AgentError(
                f"the board was not free for {wait_s:.0f} s: {holder} has it, {len(before)} before us",
                str(ticket.parent),
                "wait for it, or raise the limit of waiting",
            )
        if len(before) != told or now - told_at > _AGAIN_S:
            told, told_at = len(before), now
            tell(stage="waiting for the board", position=max(len(before), 1), holder=holder, waited_s=now - begun)
        time.sleep(_POLL_S)


def _queue(ticket: Path) -> list[Path]:
    """Living tickets before ours, oldest first; the dead ones are removed."""
    found = []
    for other in sorted(ticket.parent.glob("[0-9]*-*")):
        if other.name >= ticket.name:
            break
        try:
            with open(other) as stream:
                if _lock(stream):
                    other.unlink()
                else:
                    found.append(other)
        except FileNotFoundError:
            continue
        except PermissionError:  # in a sticky folder nobody removes another user's ticket; it is dead all the same
            continue
    return found


def _lock(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _who(ticket: Path) -> str:
    try:
        return ticket.read_text(encoding="utf-8", errors="replace") or "another job"
    except OSError:
        return "another job"


def _prepare(folder: Path) -> None:
    try:
        os.mkdir(str(folder))
        os.chmod(str(folder), 0o1777)
    except FileExistsError:
        pass
    found = os.lstat(str(folder))
    if not stat.S_ISDIR(found.st_mode) or not os.access(str(folder), os.W_OK):
        raise AgentError("it is no folder that we may write to", str(folder), "remove it, or let everybody write to it")


def _made(path: Path) -> IO[str]:
    return os.fdopen(os.open(str(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o644), "w")


def _opened(path: Path) -> IO[str]:
    """The lock, which whoever came first has made. Opened for reading: enough to lock it, whoever owns it."""
    try:
        return os.fdopen(os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW), "r")
    except FileNotFoundError:
        try:
            return os.fdopen(os.open(str(path), os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_NOFOLLOW, 0o644), "r")
        except FileExistsError:  # made a moment ago
            return os.fdopen(os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW), "r")


def describe_lease(folder: Path | None = None) -> list[str]:
    """Who has the machine and who waits for it, first to last; empty: it is free."""
    place = folder or lease_folder()
    holders = []
    for ticket in sorted(place.glob("[0-9]*-*")) if place.is_dir() else []:
        try:
            with open(ticket) as stream:
                if not _lock(stream):
                    holders.append(_who(ticket))
        except OSError:
            continue
    return holders
