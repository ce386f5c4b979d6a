"""What this machine must have to make test boards, and what is set up on it once: packages and the emulator."""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_EMULATOR = "qemu-aarch64-static"
# program -> Debian's package of it
_PROGRAMS = {
    _EMULATOR: "qemu-user-static",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "gpgv": "gpgv",
}
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_RULE = "edgekit-aarch64"
# The first 20 bytes of an ELF file: magic, 64 bits, little-endian, version 1, any ABI, type EXEC or DYN, machine 183.
# Source: ELF-64 object file format, "ELF header"; EM_AARCH64 of the ELF for the Arm 64-bit Architecture.
_ELF = bytes([0x7F, 0x45, 0x4C, 0x46, 2, 1, 1, 0, *[0] * 8, 2, 0, 183, 0])
_ELF_MASK = bytes([*[0xFF] * 7, 0, *[0xFF] * 8, 0xFE, 0xFF, 0xFF, 0xFF])
_started = time.monotonic()


class BoardError(Exception):
    """A test board, or what it is made of, failed."""


@dataclass(frozen=True)
class Source:
    """One of apt's sources that is Debian's archive: where, and the keys that sign it."""

    uri: str
    signed_by: str | None


def say(text: str) -> None:
    """One plain line of progress with the seconds since the start."""
    print(f"[boards {time.monotonic() - _started:6.1f} s] {text}", file=sys.stderr, flush=True)


def call(argv: Sequence[str | os.PathLike[str]], *, timeout_s: float = 60, env: Mapping[str, str] | None = None) -> str:
    """Run a program of this machine and give what it printed.

    Raises:
        BoardError: it failed or took too long; carries the end of what it said.
    """
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env=env,
            cwd="/",  # whoever the program becomes can be there
        )
    except subprocess.TimeoutExpired as err:
        raise BoardError(f"{argv[0]} was not done after {timeout_s:.0f} s") from err
    if done.returncode != 0:
        raise BoardError(f"{' '.join(map(str, argv))} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def cache() -> Path:
    """Where roots are kept between runs: EDGEKIT_BOARDS_CACHE, or a folder of the user's cache."""
    folder = Path(os.environ.get("EDGEKIT_BOARDS_CACHE") or Path.home() / ".cache" / "edgekit-boards").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(file: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock that ends with this process at the latest; waits for it."""
    with file.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


def why_not() -> str | None:
    """Why no board can be made here, or None. Changes nothing; whether the archives answer, only making one shows."""
    if sys.platform != "linux":
        return "test boards need Linux namespaces"
    if os.geteuid() != 0:
        return "test boards are made by root: namespaces, mounts and a network of their own"
    if shutil.which("dpkg-deb") is None or shutil.which("apt-get") is None:
        return "test boards are unpacked from Debian's packages: there is no dpkg-deb or apt-get here"
    if shutil.which("unshare") is None:
        return "test boards need util-linux's unshare"
    if not _namespaces():
        return "the kernel, or the container that this runs in, allows no new namespaces"
    kernel = Path("/proc/filesystems").read_text().split()
    if "overlay" not in kernel:
        return "test boards need the kernel's overlay file system"
    if platform.machine() != "aarch64" and "binfmt_misc" not in kernel:
        return "the kernel has no binfmt_misc, which starts the emulator for arm64 programs"
    if not debian_sources():
        return "apt's sources name no archive of Debian; EDGEKIT_BOARDS_MIRROR can name one"
    return None


def must_work() -> bool:
    """Whether a board that cannot be made is a failure, not a reason to skip: in CI, by root, with namespaces."""
    return os.environ.get("CI") == "true" and sys.platform == "linux" and os.geteuid() == 0 and _namespaces()


def prepare() -> None:
    """Install the missing programs, and have the kernel start the emulator for arm64 programs. Both stay."""
    emulated = platform.machine() != "aarch64"
    wanted = {name: package for name, package in _PROGRAMS.items() if emulated or name != _EMULATOR}
    install({package for name, package in wanted.items() if shutil.which(name) is None})
    if emulated:
        _register()


def install(packages: set[str]) -> None:
    """Install Debian packages on this machine, without starting any service of theirs."""
    if not packages:
        return
    if os.geteuid() != 0:
        raise BoardError(f"this machine lacks {', '.join(sorted(packages))}, and only root can install them")
    say(f"installing {' '.join(sorted(packages))}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    policy = Path("/usr/sbin/policy-rc.d")  # what Debian's packages ask before they start a service; 101 = do not
    command = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends"]
    with locked(cache() / "host.lock"):
        ours = not policy.exists()
        if ours:
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        try:
            call([*command, *sorted(packages)], timeout_s=600, env=quiet)
        except BoardError:  # lists that are missing, or too old to find their files
            call(["apt-get", "-q", "update"], timeout_s=300)
            call([*command, *sorted(packages)], timeout_s=600, env=quiet)
        finally:
            if ours:
                policy.unlink()


def debian_sources() -> list[Source]:
    """Debian's archives that this machine's apt uses for its own release; other releases live beside it there."""
    if mirror := os.environ.get("EDGEKIT_BOARDS_MIRROR"):
        return [Source(mirror, None)]
    release = re.search(r"^VERSION_CODENAME=\"?(\w+)", Path("/etc/os-release").read_text(), re.M)
    if release is None:
        return []
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    found: list[Source] = []
    for file in files:
        if file.is_file() and file.suffix in (".list", ".sources"):
            read = one_line if file.suffix == ".list" else deb822
            found += [source for source in read(file.read_text(), release[1]) if source not in found]
    return [source for source in found if "ubuntu" not in source.uri]


def one_line(text: str, codename: str) -> list[Source]:
    """Archives of a release in a file of lines, `deb [options] URI suite components`."""
    pattern = r"^deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<parts>.*)$"
    found = []
    for line in re.finditer(pattern, text, re.M):
        if line["suite"] == codename and "main" in line["parts"].split():
            key = re.search(r"signed-by=(\S+)", line["options"] or "")
            found.append(Source(line["uri"], key[1] if key else None))
    return found


def deb822(text: str, codename: str) -> list[Source]:
    """Archives of a release in a file of stanzas, as `URIs: ...`."""
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        lines = [line for line in stanza.splitlines() if not line.startswith("#")]
        fields = dict(re.findall(r"^([\w-]+):[ \t]*(.*)$", "\n".join(lines), re.M))
        if codename in fields.get("Suites", "").split() and "main" in fields.get("Components", "").split():
            key = fields.get("Signed-By", "").strip()
            found += [Source(uri, key if key.startswith("/") else None) for uri in fields.get("URIs", "").split()]
    return found


def _namespaces() -> bool:
    flags = ["--net", "--mount", "--pid", "--uts", "--fork"]
    return subprocess.run(["unshare", *flags, "true"], capture_output=True).returncode == 0


def _register() -> None:
    if not (_BINFMT / "register").exists():
        call(["mount", "-t", "binfmt_misc", "binfmt_misc", _BINFMT])
    for rule in _BINFMT.glob("*aarch64*"):
        lines = rule.read_text().splitlines()
        # F: the emulator is opened now, so that it is found from within another root
        if "enabled" in lines and any(line.startswith("flags:") and "F" in line for line in lines):
            return
    emulator = shutil.which(_EMULATOR)
    if emulator is None:
        raise BoardError(f"there is no {_EMULATOR} even after its package was installed")
    magic, mask = ("".join(f"\\x{byte:02x}" for byte in given) for given in (_ELF, _ELF_MASK))
    with suppress(FileExistsError):  # another process was quicker
        (_BINFMT / "register").write_text(f":{_RULE}:M::{magic}:{mask}:{emulator}:F")
