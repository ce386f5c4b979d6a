"""Folders that appear whole or not at all: temporary folders, syncing to disk, exchange by rename."""

import ctypes
import fcntl
import glob
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def sync_tree(folder: Path) -> None:
    """Flush every file and folder below `folder`, and `folder` itself, to the disk."""
    for path, _, files in os.walk(folder, topdown=False):
        for name in files:
            _sync(Path(path, name))
        _sync(Path(path))


def sync_folder(folder: Path) -> None:
    """Flush the names in `folder` to the disk, so that a rename in it outlives a power cut."""
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def building_folder(parent: Path, name: str) -> Iterator[Path]:
    """An empty folder `parent/.<name>.<random>` to build in; gone at the end unless it was renamed away.

    What a killed process left behind under the same name is removed first. A lock that dies with its process tells such
    a folder from that of another process still at work.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(parent, name)
    folder, lock = _locked(parent, name)
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _lock_path(folder).unlink(missing_ok=True)
        os.close(lock)


def _lock_path(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")


def _locked(parent: Path, name: str) -> tuple[Path, int]:
    """A new folder's name and the open descriptor of its lock."""
    while True:
        folder = parent / f".{name}.{uuid.uuid4().hex}"
        lock = os.open(_lock_path(folder), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _lock_path(folder).exists():  # another process may have swept it away before it was locked
            return folder, lock
        os.close(lock)


def _remove_abandoned(parent: Path, name: str) -> None:
    for path in parent.glob(f".{glob.escape(name)}.*.lock"):
        # OSError: another process holds the lock, or has just finished and removed it
        with suppress(OSError), path.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            path.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder so that nobody sees a part of it: moved away first, then deleted."""
    with building_folder(folder.parent, folder.name) as aside, suppress(FileNotFoundError):
        folder.rename(aside / folder.name)


def put_in_place(new: Path, place: Path) -> None:
    """Rename the folder `new` to `place`; what stood there is replaced and removed.

    On Linux the two are exchanged in one system call, so a reader finds the old or the new one, never none. Where the
    file system cannot do that, the old one is set aside first and put back if the second rename fails.
    """
    sync_tree(new)
    if not place.exists():
        new.rename(place)
    elif _exchange(new, place):
        shutil.rmtree(new)
    else:
        with building_folder(place.parent, place.name) as aside:
            place.rename(aside / place.name)
            try:
                new.rename(place)
            except OSError:
                (aside / place.name).rename(place)
                raise
    sync_folder(place.parent)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names by renameat2(2); False where the system or the file system has no such call."""
    if not sys.platform.startswith("linux"):
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    done: int = renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return done == 0
