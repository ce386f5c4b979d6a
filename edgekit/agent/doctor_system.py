"""What a board is and in which state: system, JetPack, power, memory, disk, rights, load. Syntax of Python 3.6.

Every function reads below `root` and gives None or nothing where something cannot be read.
"""

import grp
import hashlib
import os
import platform
import pwd
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

_COMMAND_LIMIT_S = 20.0
_LOAD_WATCH_S = 1.0
_PACKAGES = ("nvidia-jetpack", "nvidia-l4t-core", "libnvinfer*", "python3-libnvinfer*", "cuda-cudart*", "libcudnn*")
# device files -> who needs them; the first two by TensorRT and vcgencmd, the others by meters and sensors of one's own
_DEVICE_FILES = (
    ("gpu", ("dev/nvhost-gpu", "dev/nvhost-ctrl-gpu", "dev/nvmap", "dev/nvgpu/igpu0/*", "dev/dri/renderD*")),
    ("firmware", ("dev/vcio",)),
    ("i2c", ("dev/i2c-*",)),
    ("gpio", ("dev/gpiochip*", "dev/gpiomem")),
)
_GROUPS = ("video", "render", "gpio", "i2c", "dialout")

Run = Callable[[Sequence[str]], Optional[str]]


def run_quietly(argv: Sequence[str]) -> Optional[str]:
    """What a command wrote to stdout; None where it is absent, slow, or writes nothing and fails."""
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_COMMAND_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = done.stdout.decode("utf-8", "replace")
    return text if text or done.returncode == 0 else None


def read_system(root: Path) -> Dict[str, Any]:
    """Operating system, architecture, C library, board."""
    release = {}
    for line in _text(root / "etc/os-release").splitlines():
        key, _, value = line.partition("=")
        release[key] = value.strip().strip('"')
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):  # another C library: musl
        libc = None
    return {
        "name": release.get("PRETTY_NAME", ""),
        "id": release.get("ID", ""),
        "version": release.get("VERSION_ID", ""),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "libc": libc,
        "board": _text(root / "proc/device-tree/model").rstrip("\0\n") or None,
    }


def read_jetson(root: Path, run: Run = run_quietly) -> Optional[Dict[str, Any]]:
    """L4T release, NVIDIA's packages, and the power mode; None on other boards.

    The first line of /etc/nv_tegra_release reads `# R36 (release), REVISION: 4.3, GCID: ...`.
    """
    match = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release"))
    if match is None and not list((root / "etc").glob("nvpmodel.conf")):
        return None
    packages = {}
    listed = run(("dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Abbrev}\n", *_PACKAGES))
    for line in (listed or "").splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[2] == "ii":
            packages[fields[0]] = fields[1]
    modes = re.findall(r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", _text(root / "etc/nvpmodel.conf"), re.MULTILINE)
    return {
        "l4t": ".".join(match.groups()) if match else None,
        "packages": packages,
        "mode": _power_mode(root, run),
        "modes": dict(modes),
        "trtexec": next((str(path) for path in [root / "usr/src/tensorrt/bin/trtexec"] if path.is_file()), None),
        "cuda": _cuda_version(root),
    }


def _power_mode(root: Path, run: Run) -> Optional[str]:
    """Number of the power mode: the last line of `nvpmodel -q`, else its status file (`pmode:0000 fmode:...`)."""
    lines = [line.strip() for line in (run(("nvpmodel", "-q")) or "").splitlines()]
    numbers = [line for line in lines if line.isdigit()]
    if numbers:
        return numbers[-1]
    match = re.search(r"pmode:(\d+)", _text(root / "var/lib/nvpmodel/status"))
    return str(int(match.group(1))) if match else None


def _cuda_version(root: Path) -> Optional[str]:
    match = re.search(
        r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"([^"]+)"', _text(root / "usr/local/cuda/version.json"), re.DOTALL
    ) or re.search(r"CUDA Version ([\d.]+)", _text(root / "usr/local/cuda/version.txt"))  # before CUDA 11.1
    return match.group(1) if match else None


def read_power(root: Path) -> Dict[str, Any]:
    """Governor and limits of every processor; governor and limits of a Tegra's GPU."""
    processors = []
    for folder in sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*")):
        if (folder / "cpufreq").is_dir():
            frequency = folder / "cpufreq"
            processors.append(
                {
                    "governor": _text(frequency / "scaling_governor").strip(),
                    "governors": _text(frequency / "scaling_available_governors").split(),
                    "min_khz": _integer(frequency / "scaling_min_freq"),
                    "max_khz": _integer(frequency / "scaling_max_freq"),
                    "limit_khz": _integer(frequency / "cpuinfo_max_freq"),
                }
            )
    gpu = None
    for folder in sorted((root / "sys/class/devfreq").glob("*")):
        # 57000000.gpu (Nano), 17000000.gv11b (Xavier), 17000000.ga10b and 17000000.gpu (Orin)
        if re.search(r"\.(gpu|gp10b|gv11b|ga10b)$", folder.name):
            gpu = {
                "path": str(folder),
                "governor": _text(folder / "governor").strip(),
                "min_hz": _integer(folder / "min_freq"),
                "max_hz": _integer(folder / "max_freq"),
            }
    online = _text(root / "sys/devices/system/cpu/online").strip()
    return {"processors": processors, "gpu": gpu, "online": online, "count": os.cpu_count()}


def read_memory(root: Path) -> Dict[str, Any]:
    """Bytes of memory, and every swap with its size and use."""
    values = {}
    for line in _text(root / "proc/meminfo").splitlines():
        key, _, value = line.partition(":")
        if value.split() and value.split()[0].isdigit():
            values[key] = int(value.split()[0]) * 1024
    swaps = []
    for line in _text(root / "proc/swaps").splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 4:
            swaps.append({"path": fields[0], "bytes": int(fields[2]) * 1024, "used_bytes": int(fields[3]) * 1024})
    return {"total_bytes": values.get("MemTotal"), "available_bytes": values.get("MemAvailable"), "swaps": swaps}


def read_disk(folder: Path) -> Dict[str, Any]:
    """Room where jobs run."""
    usage = shutil.disk_usage(str(folder))
    return {"folder": str(folder), "total_bytes": usage.total, "free_bytes": usage.free}


def read_access(root: Path) -> Dict[str, Any]:
    """Who this user is, and which device files it may not use, each with the group that may."""
    files = []
    for need, patterns in _DEVICE_FILES:
        for pattern in patterns:
            for path in sorted(root.glob(pattern)):
                status = path.stat()
                files.append(
                    {
                        "need": need,
                        "path": str(path),
                        "group": _group_name(status.st_gid),
                        "usable": os.access(str(path), os.R_OK | os.W_OK),
                        "group_may": bool(status.st_mode & 0o060 == 0o060),
                    }
                )
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    groups = sorted(_group_name(number) for number in set(os.getgroups()) | {os.getgid()})
    return {
        "user": user,
        "home": os.path.expanduser("~"),
        "root": os.getuid() == 0,
        "groups": groups,
        "files": files,
        "known": _known_groups(),
    }


def _known_groups() -> List[str]:
    return [name for name in _GROUPS if any(entry.gr_name == name for entry in grp.getgrall())]


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def read_identity(root: Path) -> Dict[str, Any]:
    """Digests of what names this machine: the machine id is copied with an SD card, the serial number is not."""
    return {
        "machine_id": _digest(_text(root / "etc/machine-id").strip()),
        "serial": _digest(_text(root / "proc/device-tree/serial-number").rstrip("\0\n")),
    }


def _digest(text: str) -> Optional[str]:
    # systemd writes this word before the first boot is through
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text and text != "uninitialized" else None


def read_leftovers(folder: Path, now_s: Optional[float] = None) -> List[Dict[str, Any]]:
    """Folders of other jobs beside `folder`, and how long ago each was last touched."""
    now_s = time.time() if now_s is None else now_s
    found = []
    for path in sorted(folder.parent.glob("edgekit-*")):
        try:
            age_s = now_s - path.stat().st_mtime
        except OSError:  # removed meanwhile
            continue
        if path != folder and path.name != "edgekit-lease" and path.is_dir():
            found.append({"path": str(path), "age_s": age_s})
    return found


def read_load(root: Path, watch: Callable[[], object] = lambda: time.sleep(_LOAD_WATCH_S)) -> Dict[str, Any]:
    """Load average, and the processes that used the processors most while we watched."""
    before, start = _processor_ticks(root), time.monotonic()
    watch()
    passed = max(time.monotonic() - start, 1e-3) * os.sysconf("SC_CLK_TCK")
    used_by = []
    for pid, (name, ticks) in _processor_ticks(root).items():
        used = ticks - before.get(pid, (name, ticks))[1]
        if used > 0 and pid != os.getpid():
            used_by.append((used / passed, name))
    busiest = [{"name": name, "processors": processors} for processors, name in sorted(used_by, reverse=True)[:3]]
    first = _text(root / "proc/loadavg").split()
    return {"average": float(first[0]) if first else None, "busiest": busiest}


def _processor_ticks(root: Path) -> Dict[int, Tuple[str, int]]:
    """pid -> name, and user and system time in clock ticks. Source: proc(5), fields 14 and 15 of /proc/PID/stat."""
    found = {}
    for path in (root / "proc").glob("[0-9]*/stat"):
        head, _, tail = _text(path).rpartition(")")
        fields = tail.split()
        if len(fields) > 12:
            found[int(path.parent.name)] = (head.partition("(")[2], int(fields[11]) + int(fields[12]))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _integer(path: Path) -> Optional[int]:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None
