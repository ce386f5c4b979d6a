"""The doctor's facts, from trees and commands as boards have them."""

import ast
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import edgekit.agent
from edgekit.agent import doctor_libraries, doctor_system
from edgekit.agent.doctor import doctor, facts
from edgekit.agent.jobs import run_job
from edgekit.devices.zipapp import build_zipapp
from edgekit.schema.facts import Facts

FOLDER = Path(next(iter(edgekit.agent.__path__)))
MODULES = ("doctor.py", "doctor_libraries.py", "doctor_system.py")


def put(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", MODULES)
def test_the_doctor_runs_where_the_agent_cannot(name: str):
    source = (FOLDER / name).read_text()
    tree = ast.parse(source, feature_version=(3, 6))
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "numpy" not in named
    assert "__future__" not in named  # `annotations` is a syntax error before Python 3.7


def test_main_answers_in_a_python_without_any_package(tmp_path: Path):
    (tmp_path / "agent.pyz").write_bytes(build_zipapp())
    start = "import sys; sys.path.insert(0, sys.argv[1]); from edgekit.agent.doctor import main; main(sys.argv[2:])"
    argv = [sys.executable, "-I", "-S", "-c", start, str(tmp_path / "agent.pyz"), str(tmp_path), "{}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    found = Facts.model_validate_json(done.stdout)
    assert found.disk.folder == str(tmp_path)
    assert found.packages == {}


def test_the_job_gives_facts_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor_libraries, "MODULES", {"numpy": "numpy", "tensorrt": "no_such_module_here"})
    found = Facts.model_validate(doctor({}, tmp_path))
    assert found.python.version == sys.version.split()[0]
    assert found.imports["numpy"].state == "ok"
    assert found.packages["numpy"] == found.imports["numpy"].version
    assert found.imports["tensorrt"].state == "absent"
    assert found.memory.total_bytes is not None
    assert run_job({"kind": "doctor"}, tmp_path)["python"]["bits"] == 64


def fake_python(folder: Path, modules: Path) -> str:
    """A Python that finds modules in a folder, which `-E` would keep it from."""
    path = put(folder, "python", f'#!/bin/sh\nshift\nPYTHONPATH={modules} exec {sys.executable} "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    ("source", "state", "error"),
    [
        ("__version__ = '1.2'\nprint('hello from the library')", "ok", ""),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGILL)", "failed", "died of SIGILL"),
        ("import time\ntime.sleep(60)", "failed", "importing it took over 2 s"),
        ("raise ImportError('libnvinfer.so.8: cannot open shared object file')", "failed", "cannot open shared object"),
        ("import numpy_of_another_board", "failed", "No module named 'numpy_of_another_board'"),
        (
            "import sys\nsys.exit('A module that was compiled using NumPy 1.x cannot be run in\\nNumPy 2.1 as it may')",
            "failed",
            "compiled for numpy 1",
        ),
    ],
)
def test_a_library_is_imported_in_a_process_of_its_own(tmp_path: Path, source: str, state: str, error: str):
    put(tmp_path / "modules", "library.py", source)
    found = doctor_libraries.probe(fake_python(tmp_path, tmp_path / "modules"), "library", 2.0)
    assert found["state"] == state
    assert error in found["error"]
    assert found["version"] == ("1.2" if state == "ok" else "")


def test_an_absent_module_and_an_absent_python_differ(tmp_path: Path):
    assert doctor_libraries.probe(sys.executable, "no_such.module", 30.0)["state"] == "absent"
    found = doctor_libraries.probe(str(tmp_path / "python3.8"), "numpy", 30.0)
    assert found["state"] == "failed"
    assert "does not start" in found["error"]


def test_packages_are_those_that_the_path_gives_first(tmp_path: Path):
    for name in ("a/onnxruntime_gpu-1.23.0", "b/onnxruntime_gpu-1.19.2", "b/numpy-1.26.4"):
        (tmp_path / f"{name}.dist-info").mkdir(parents=True)
    (tmp_path / "b/tensorrt-8.5.2.2.egg-info").mkdir()
    (tmp_path / "b/requests-2.0.dist-info").mkdir()
    found = doctor_libraries.read_packages([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "none")])
    assert found == {"onnxruntime-gpu": "1.23.0", "numpy": "1.26.4", "tensorrt": "8.5.2.2"}


NVPMODEL_CONF = """# comment
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
CPU_ONLINE CORE_0 1
< PM_CONFIG DEFAULT=0 >
"""
DPKG = """nvidia-jetpack 6.2+b77 ii
libnvinfer10 10.3.0.30-1+cuda12.5 ii
libnvinfer8 8.6.2 rc
python3-libnvinfer 10.3.0.30-1+cuda12.5 ii
"""


def test_a_jetson_tells_its_release_mode_and_packages(tmp_path: Path):
    put(
        tmp_path,
        "etc/nv_tegra_release",
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64",
    )
    put(tmp_path, "etc/nvpmodel.conf", NVPMODEL_CONF)
    put(tmp_path, "usr/src/tensorrt/bin/trtexec", "")
    put(tmp_path, "usr/local/cuda/version.json", '{"cuda" : {"name" : "CUDA SDK", "version" : "12.6.68"}}')
    told = {"dpkg-query": DPKG, "nvpmodel": "NV Power Mode: MAXN_SUPER\n2\n"}
    found = doctor_system.read_jetson(tmp_path, run=lambda argv: told[argv[0]])
    assert found == {
        "l4t": "36.4.3",
        "packages": {
            "nvidia-jetpack": "6.2+b77",
            "libnvinfer10": "10.3.0.30-1+cuda12.5",
            "python3-libnvinfer": "10.3.0.30-1+cuda12.5",
        },
        "mode": "2",
        "modes": {"0": "15W", "2": "MAXN_SUPER"},
        "trtexec": str(tmp_path / "usr/src/tensorrt/bin/trtexec"),
        "cuda": "12.6.68",
    }
    put(tmp_path, "var/lib/nvpmodel/status", "pmode:0002 fmode:fanNULL")
    refused = doctor_system.read_jetson(tmp_path, run=lambda argv: None)
    assert refused is not None
    assert (refused["mode"], refused["packages"]) == ("2", {})
    assert doctor_system.read_jetson(tmp_path / "etc", run=lambda argv: None) is None


def test_clocks_and_the_gpu_are_read(tmp_path: Path):
    for name, text in {
        "scaling_governor": "schedutil",
        "scaling_available_governors": "performance schedutil",
        "scaling_min_freq": "729600",
        "scaling_max_freq": "1510400",
        "cpuinfo_max_freq": "1728000",
    }.items():
        put(tmp_path, f"sys/devices/system/cpu/cpu0/cpufreq/{name}", text + "\n")
    for name, text in {"governor": "nvhost_podgov", "min_freq": "306000000", "max_freq": "624750000"}.items():
        put(tmp_path, f"sys/class/devfreq/17000000.gpu/{name}", text + "\n")
    put(tmp_path, "sys/class/devfreq/15340000.vic/governor", "wmark\n")
    found = doctor_system.read_power(tmp_path)
    assert found["processors"] == [
        {
            "governor": "schedutil",
            "governors": ["performance", "schedutil"],
            "min_khz": 729600,
            "max_khz": 1510400,
            "limit_khz": 1728000,
        }
    ]
    assert (found["gpu"]["min_hz"], found["gpu"]["max_hz"]) == (306000000, 624750000)


def test_memory_and_swap_are_bytes(tmp_path: Path):
    put(tmp_path, "proc/meminfo", "MemTotal:  7990072 kB\nMemFree: 1 kB\nMemAvailable:  5990072 kB\n")
    put(tmp_path, "proc/swaps", "Filename Type Size Used Priority\n/dev/zram0 partition 665124 1024 5\n")
    assert doctor_system.read_memory(tmp_path) == {
        "total_bytes": 7990072 * 1024,
        "available_bytes": 5990072 * 1024,
        "swaps": [{"path": "/dev/zram0", "bytes": 665124 * 1024, "used_bytes": 1024 * 1024}],
    }
    assert doctor_system.read_memory(tmp_path / "none")["total_bytes"] is None


def test_leftovers_are_other_jobs_folders(tmp_path: Path):
    for name in ("edgekit-own", "edgekit-old", "edgekit-lease", "other"):
        (tmp_path / name).mkdir()
    touched_s = (tmp_path / "edgekit-old").stat().st_mtime
    found = doctor_system.read_leftovers(tmp_path / "edgekit-own", now_s=touched_s + 7200)
    assert found == [{"path": str(tmp_path / "edgekit-old"), "age_s": 7200.0}]


def test_the_busiest_processes_are_named(tmp_path: Path):
    def stat_of(pid: int, name: str, ticks: int) -> None:
        fields = ["S", *["0"] * 10, str(ticks), "0", "0"]
        put(tmp_path, f"proc/{pid}/stat", f"{pid} ({name}) {' '.join(fields)}")

    stat_of(7, "gnome shell (x)", 100)
    stat_of(8, "idle", 50)
    put(tmp_path, "proc/loadavg", "0.52 0.58 0.59 1/467 12345\n")
    found = doctor_system.read_load(tmp_path, watch=lambda: stat_of(7, "gnome shell (x)", 5_000_000))
    assert found["average"] == 0.52
    assert [entry["name"] for entry in found["busiest"]] == ["gnome shell (x)"]
    assert found["busiest"][0]["processors"] > 1


def test_the_machine_id_is_a_digest_and_what_systemd_writes_first_is_none(tmp_path: Path):
    put(tmp_path, "etc/machine-id", "uninitialized\n")
    assert doctor_system.read_identity(tmp_path)["machine_id"] is None
    put(tmp_path, "etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    put(tmp_path, "proc/device-tree/serial-number", "100000001234abcd\0")
    found = doctor_system.read_identity(tmp_path)
    assert "0123456789abcdef" not in json.dumps(found)
    assert len(found["serial"]) == 16


def test_the_system_names_itself(tmp_path: Path):
    put(tmp_path, "etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n')
    put(tmp_path, "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    found = doctor_system.read_system(tmp_path)
    assert (found["name"], found["id"], found["version"]) == ("Debian GNU/Linux 12 (bookworm)", "debian", "12")
    assert found["board"] == "Raspberry Pi 5 Model B Rev 1.0"


def test_device_files_tell_their_group_and_use(tmp_path: Path):
    path = put(tmp_path, "dev/nvmap", "")
    path.chmod(0o660)
    (file,) = doctor_system.read_access(tmp_path)["files"]
    assert (file["need"], file["usable"], file["group_may"]) == ("gpu", True, True)
    path.chmod(0o600)
    assert doctor_system.read_access(tmp_path)["files"][0]["group_may"] is False


def test_facts_are_one_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor_libraries, "MODULES", {})
    found = facts(tmp_path, {}, root=tmp_path)
    assert Facts.model_validate(found).jetson is None
