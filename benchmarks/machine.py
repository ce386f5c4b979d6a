"""Which convention the machine that runs a benchmark wants, and Python environments for peers that clash with ours."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

from rows import cpu_flags

# what a peer needs that our own environment cannot hold
ENVIRONMENTS = {"nncf": ("nncf==3.4.0", "onnx", "onnxruntime")}


def local_convention(format_name: str) -> str:
    """The convention that this machine's own runtime wants."""
    if format_name == "tflite":
        return "litert"
    if platform.machine() in {"aarch64", "arm64"}:
        return "onnxruntime-arm"
    return "onnxruntime-x86-vnni" if cpu_flags() & {"avx512_vnni", "avx_vnni"} else "onnxruntime-x86"


def python_of(name: str, root: Path) -> Path:
    """The interpreter of a peer's own environment below `root`, which is made the first time.

    Raises:
        CalledProcessError: it cannot be made; the peer then has no rows, and a note says so.
    """
    folder = root / name
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *ENVIRONMENTS[name]]
        subprocess.run(pip, check=True, capture_output=True)
        (folder / "installed").touch()
    return python
