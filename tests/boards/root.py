"""The root of a test board: unpacked, given the few files that package scripts would make, and kept in a cache."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.boards.host import BoardError, cache, call, locked, prepare, say
from tests.boards.packages import add_wheels, download_debs, unpack_debs
from tests.boards.recipe import Recipe

USER, USER_ID = "edgekit", 1000
_SURELY_OVER_S = 86400.0
_UNUSED_S = 7 * 86400.0  # other checkouts of other ages may share the cache
MODEL = "edgekit test board: arm64 under user-mode emulation"

_PROCESSORS = ("sys/devices/system/cpu/possible", "sys/devices/system/cpu/present")
_PASSWD = f"""\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
{USER}:x:{USER_ID}:{USER_ID}::/home/{USER}:/bin/bash
"""
_GROUP = f"root:x:0:\ndaemon:x:1:\ntty:x:5:\nstaff:x:50:\nnogroup:x:65534:\n{USER}:x:{USER_ID}:\n"
# '*': no password fits, but sshd lets a key in, which it does not with '!'
_SHADOW = "".join(f"{name}:*:19000:0:99999:7:::\n" for name in ("root", "daemon", "sshd", "nobody", USER))
_SSHD = """\
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PrintMotd no
Subsystem sftp /usr/lib/openssh/sftp-server
"""
# Only Python started through this sees the changed clock: Linux has one time of day for all of its processes.
_FAKE_CLOCK = """\
#!/bin/sh
LD_PRELOAD=/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1
FAKETIME_TIMESTAMP_FILE=/etc/faketimerc FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1
export LD_PRELOAD FAKETIME_TIMESTAMP_FILE FAKETIME_NO_CACHE FAKETIME_DONT_FAKE_MONOTONIC DONT_FAKE_MONOTONIC
exec /usr/bin/python3 "$@"
"""


# /dev and /proc for one command, in namespaces that end with it; the shell stays, since what is first in a namespace of
# processes outlives its own abort
_LAY = 'mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && chroot "$0" "$@"; exit $?'
_ENTER = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _LAY)


@contextmanager
def root_of(recipe: Recipe) -> Iterator[Path]:
    """The recipe's root from the cache, made if it is not there; locked against removal meanwhile. Never write to it.

    Raises:
        BoardError: it cannot be made, as when no archive answers.
    """
    prepare()
    root = cache() / f"{recipe.name}-{recipe.digest()}"
    lock = cache() / f"{root.name}.lock"
    if not root.is_dir():
        with locked(lock):
            if not root.is_dir():  # nobody made it while this process waited
                _make(recipe, root)
                _remove_old(recipe, root)
    with locked(lock, shared=True):
        os.utime(lock)
        yield root


def _make(recipe: Recipe, root: Path) -> None:
    begun = time.monotonic()
    say(f"{recipe.name}: making its root, once")
    with tempfile.TemporaryDirectory(prefix=f"making-{recipe.name}-", dir=cache()) as folder:
        work = Path(folder)
        made = work / "root"
        made.mkdir()
        made.chmod(0o755)
        with ThreadPoolExecutor(1) as second:
            debs = second.submit(download_debs, recipe, work)
            for wheels in recipe.wheels:
                add_wheels(recipe, wheels, made, work)
            found = debs.result()
        _merge_usr(made)
        unpack_debs(found, made)
        say(f"{recipe.name}: unpacked")
        _write_files(recipe, made)
        _import_once(recipe, made)
        made.rename(root)
    say(f"{recipe.name}: root made in {time.monotonic() - begun:.0f} s: {root}")


def _merge_usr(root: Path) -> None:
    """/bin, /sbin and /lib lie under /usr, as the installer lays them; the packages only expect it."""
    for name in ("bin", "sbin", "lib"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")


def _write_files(recipe: Recipe, root: Path) -> None:
    version = f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {recipe.python}.0\n"
    files = {
        "etc/passwd": _PASSWD,
        "etc/group": _GROUP,
        "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
        "etc/hosts": "127.0.0.1 localhost\n",
        "etc/ssh/sshd_config": _SSHD,
        "etc/faketimerc": "+0\n",
        "opt/faketime/bin/python3": _FAKE_CLOCK,
        # ONNX Runtime 1.16 ends at its import where these two are missing (its issue 10038)
        **{name: Path(f"/{name}").read_text() for name in _PROCESSORS},
        # where Linux tells what board it is on
        "sys/firmware/devicetree/base/model": f"{MODEL}\0",
        **{f"{folder}/pyvenv.cfg": version for folder in recipe.virtual},
    }
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (root / "etc/shadow").write_text(_SHADOW)
    (root / "etc/shadow").chmod(0o640)
    (root / "opt/faketime/bin/python3").chmod(0o755)
    for name, mode in {"dev": 0o755, "proc": 0o755, "tmp": 0o1777, "var/tmp": 0o1777, "run/sshd": 0o755}.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(mode)
    home = root / "home" / USER
    home.mkdir(parents=True, exist_ok=True)
    os.chown(home, USER_ID, USER_ID)
    # what update-alternatives and package scripts would have made
    links = {"usr/bin/sh": "dash", "usr/bin/awk": "gawk"}
    for folder in recipe.virtual:
        (root / folder / "bin").mkdir()
        links[f"{folder}/bin/python3"] = "/usr/bin/python3"
    for name, target in links.items():
        if not os.path.lexists(root / name):
            (root / name).symlink_to(target)
    call(["chroot", root, "/sbin/ldconfig"], timeout_s=120)


def _import_once(recipe: Recipe, root: Path) -> None:
    for python, modules in recipe.imports:
        code = f"import {modules}, sys; print(sys.version.split()[0])"
        version = call([*_ENTER, root, python, "-c", code], timeout_s=300).strip()
        if not version.startswith(f"{recipe.python}."):
            raise BoardError(f"{python} of {recipe.name} is {version}, where the recipe says {recipe.python}")
        say(f"{recipe.name}: {python} {version} imports {modules}")


def _remove_old(recipe: Recipe, root: Path) -> None:
    """Take away roots of earlier recipes that were not used for long, and what a crash left."""
    for old in cache().glob(f"{recipe.name}-*"):
        if old == root or not old.is_dir():
            continue
        with (cache() / f"{old.name}.lock").open("a") as lock:
            if time.time() - os.fstat(lock.fileno()).st_mtime < _UNUSED_S:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(old)
            (cache() / f"{old.name}.lock").unlink()
    for left in cache().glob(f"making-{recipe.name}-*"):
        if time.time() - left.stat().st_mtime > _SURELY_OVER_S:
            shutil.rmtree(left)
