"""What Python a board has, which libraries are installed in it, and whether they import. Syntax of Python 3.6.

A library is imported in a process of its own with a time limit: a wheel for another processor ends it by SIGILL, and a
broken driver may never return.
"""

import importlib.util
import json
import platform
import re
import signal
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping

IMPORT_LIMIT_S = 90.0  # TensorRT from a slow SD card takes tens of seconds the first time

# runtime, as targets call it -> the module that is imported
MODULES = {
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "tensorrt": "tensorrt",
}
_PACKAGES = re.compile(r"^(numpy|onnxruntime.*|ort-.*|ai-edge-litert.*|tflite-runtime|tensorrt.*|torch)$")
_MARK = "edgekit-import "
_PROBE = """
import importlib, json, sys
name = sys.argv[1]
module = importlib.import_module(name)
top = sys.modules[name.partition(".")[0]]
found = {"version": str(getattr(top, "__version__", "")), "file": str(getattr(top, "__file__", ""))}
if name == "onnxruntime":
    found["providers"] = list(module.get_available_providers())
sys.stdout.write("\\nedgekit-import " + json.dumps(found) + "\\n")
"""


def python_facts() -> Dict[str, Any]:
    """This Python: version, word size, whether the system manages it, and what it can make environments with."""
    virtual = sys.prefix != getattr(sys, "base_prefix", sys.prefix)
    return {
        "version": platform.python_version(),
        "executable": sys.executable,
        "bits": struct.calcsize("P") * 8,  # a 32-bit userland may run on a 64-bit kernel
        "virtual": virtual,
        # PEP 668: pip refuses to install into such a Python
        "externally_managed": not virtual and (Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED").is_file(),
        "pip": importlib.util.find_spec("pip") is not None,
        "venv": importlib.util.find_spec("ensurepip") is not None,
    }


def read_packages(paths: Iterable[str]) -> Dict[str, str]:
    """Installed distributions that may run an artifact, and their versions, by their .dist-info folders.

    `importlib.metadata` would say the same from Python 3.8 on.
    """
    found: Dict[str, str] = {}
    for folder in paths:
        for pattern in ("*.dist-info", "*.egg-info"):
            for entry in sorted(Path(folder).glob(pattern)) if Path(folder).is_dir() else []:
                name, _, version = entry.stem.partition("-")
                name = re.sub(r"[-_.]+", "-", name).lower()
                if version and _PACKAGES.match(name):
                    found.setdefault(name, version.partition("-")[0])  # the first on the path is the one imported
    return found


def read_imports(pythons: Mapping[str, str], limit_s: float = IMPORT_LIMIT_S) -> Dict[str, Dict[str, Any]]:
    """How importing each library of `MODULES` ended.

    Returns:
        runtime -> state (ok, absent, failed), version, file, providers, error, python: `absent` says that there is no
        such module, `failed` that it is there and cannot be used.
    """
    return {name: probe(pythons.get(name, sys.executable), module, limit_s) for name, module in sorted(MODULES.items())}


def probe(python: str, module: str, limit_s: float) -> Dict[str, Any]:
    """Import one module in a process of `python`."""
    found: Dict[str, Any] = {"state": "failed", "version": "", "file": "", "providers": [], "python": python}
    try:
        done = subprocess.run(  # noqa: UP022  Python 3.6 has no capture_output
            [python, "-E", "-c", _PROBE, module],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return dict(found, error=f"importing it took over {limit_s:.0f} s")
    except OSError as err:
        return dict(found, error=f"{python} does not start: {err.strerror}")
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        if line.startswith(_MARK):
            found.update(json.loads(line[len(_MARK) :]))
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if done.returncode == 0:
        return dict(found, state="ok", error="")
    if done.returncode < 0:
        return dict(found, error=f"died of {signal.Signals(-done.returncode).name}")
    last = lines[-1] if lines else f"ended with status {done.returncode}"
    missing = re.match(r"ModuleNotFoundError: No module named '([^']+)'", last)
    if missing and missing.group(1) in _parents(module):
        return dict(found, state="absent", error="")
    if any("compiled using NumPy 1.x" in line for line in lines):
        last = "it was compiled for numpy 1 and cannot run with numpy 2"
    return dict(found, error=last)


def _parents(module: str) -> List[str]:
    """`a.b.c` -> a, a.b, a.b.c."""
    parts = module.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]
