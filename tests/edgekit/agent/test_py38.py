"""The agent's own tests, those that need no runtime and none of the host's libraries, under a real Python 3.8.

The environment with numpy and pytest is made once, outside of the tree, and kept.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import edgekit
import edgekit.agent

HERE = Path(__file__).parent
TESTS = ("boards", "test_feeds", "test_jetson", "test_memory", "test_meters", "test_nvml", "test_power", "test_profile")
TESTS += (
    "test_postprocess",
    "test_sensors",
    "test_sysfs",
    "test_throttle",
    "test_timing",
    "test_watch",
    "test_workers",
)
_IMPORT_ALL = """
import importlib, pkgutil, edgekit.agent
for module in pkgutil.walk_packages(edgekit.agent.__path__, "edgekit.agent."):
    importlib.import_module(module.name)
"""


def python_3_8() -> str | None:
    """A Python 3.8 of this machine."""
    candidates = [*map(str, sorted(Path.home().glob(".pyenv/versions/3.8.*/bin/python"))), shutil.which("python3.8")]
    code = "import sys; sys.exit(sys.version_info[:2] != (3, 8))"
    for path in candidates:
        if path and subprocess.run([path, "-c", code], stderr=subprocess.DEVNULL).returncode == 0:
            return path
    return None  # a pyenv shim is there and refuses, or nothing is


@pytest.fixture(scope="module")
def interpreter() -> str:
    """Python 3.8 with numpy and pytest."""
    base = python_3_8()
    if base is None:
        pytest.skip("no Python 3.8 in ~/.pyenv or on PATH")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "edgekit-tests/py38"
    python = folder / "bin/python"
    if not python.exists() or subprocess.run([str(python), "-c", "import numpy, pytest"]).returncode != 0:
        subprocess.run([base, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--retries", "0", "--disable-pip-version-check"]
        if subprocess.run([*pip, "numpy", "pytest"], capture_output=True).returncode != 0:
            pytest.skip("numpy and pytest for Python 3.8 cannot be installed here")
    return str(python)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The agent as boards have it, alone, with its tests."""
    (agent,) = (Path(path) for path in edgekit.agent.__path__)
    shutil.copytree(agent, tmp_path / "edgekit/agent", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "edgekit/__init__.py").write_text(f'__version__ = "{edgekit.__version__}"\n')
    tests = tmp_path / "tests/edgekit/agent"
    tests.mkdir(parents=True)
    for name in TESTS:
        source = (HERE / f"{name}.py").read_text()
        # tests are written for the host's Python: annotations such as `float | None` must not be evaluated here
        ahead = "" if "from __future__ import annotations" in source else "from __future__ import annotations\n"
        (tests / f"{name}.py").write_text(ahead + source)
    return tmp_path


def run(interpreter: str, tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tree),
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run([interpreter, *words], cwd=tree, env=environment, capture_output=True, text=True)


def test_every_module_of_the_agent_is_imported(interpreter: str, tree: Path):
    done = run(interpreter, tree, "-W", "error", "-c", _IMPORT_ALL)
    assert done.returncode == 0, done.stderr


def test_the_agents_own_tests_pass(interpreter: str, tree: Path):
    done = run(
        interpreter, tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "--import-mode=importlib"
    )
    found = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0, done.stdout[-4000:]
    assert found is not None
    assert int(found[1]) > 90


def test_a_device_is_described(interpreter: str, tree: Path):
    (tree / "job.json").write_text('{"kind": "describe"}')
    code = "import sys; from edgekit.agent.main import main; sys.exit(main(['job.json', 'result.json']))"
    done = run(interpreter, tree, "-c", code)
    assert done.returncode == 0, done.stderr
    assert '"python": "3.8' in (tree / "result.json").read_text()
