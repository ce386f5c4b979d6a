"""Imports point one way, and what must start fast imports no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "edgekit"

# package -> the packages it may import besides itself, the root and `errors`; from the bottom up
LAYERS: dict[str, set[str]] = {}
for tier in (
    {"schema"},
    {"numerics"},
    {"nets", "data"},
    {"passes"},
    {"formats"},
    {"devices"},
    {"profiling"},
    {"store"},
    {"report"},
    {"release"},
    {"pipeline"},
    {"debug"},
    {"api"},
    {"init"},
    {"cli"},
):
    below = set(LAYERS)
    LAYERS.update(dict.fromkeys(tier, below | tier))
LAYERS["errors"] = set()
ROOT = {"edgekit", "edgekit.__version__"}  # the parent of every module; the agent ships with one of its own
PREPROCESS = {"preprocess", "postprocess", "errors"}  # the one definition of each, and what they raise
AGENT_IMPORTERS = {"devices", "profiling", "store", "report", "release", "pipeline", "debug", "api", "cli"}


def imported(source: str, module: str, is_package: bool) -> set[str]:
    """Dotted names below edgekit that a module's source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base] if base else parts)
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return {name for name in found if name == "edgekit" or name.startswith("edgekit.")}


def broken(module: str, names: set[str]) -> list[str]:
    """The imports of a module that its layer may not have."""
    parts = module.split(".")
    own = parts[1] if len(parts) > 1 else ""
    wrong = []
    for name in sorted(names):
        below = name.split(".")[1:]
        package = below[0] if below and (below[0] in LAYERS or below[0] == "agent") else ""
        if own in {"", "__main__"}:
            allowed = True
        elif own == "agent":
            allowed = package == "agent" or name in ROOT
        elif package == "agent":
            allowed = own in AGENT_IMPORTERS or (own == "data" and below[1] in PREPROCESS)
        elif name in ROOT:
            allowed = True
        else:
            allowed = package in LAYERS[own] | ({"errors", own} if own != "errors" else set())
        if not allowed:
            wrong.append(f"{module} imports {name}")
    return wrong


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def test_imports_point_one_way():
    wrong = []
    for module, path in modules():
        names = imported(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
        wrong += broken(module, names)
    assert wrong == []


def test_every_package_has_a_layer():
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages - set(LAYERS) == {"agent"}


@pytest.mark.parametrize(
    ("module", "source", "refused"),
    [
        ("edgekit.nets.model", "from edgekit.passes import context", True),
        ("edgekit.nets.model", "from ..passes.context import Context", True),
        ("edgekit.nets.model", "def f():\n    import edgekit.formats.table", True),
        ("edgekit.nets.model", "if TYPE_CHECKING:\n    from edgekit.pipeline.run import run", True),
        ("edgekit.nets.model", "from edgekit.numerics.fold import fold\nfrom edgekit.errors import ModelError", False),
        ("edgekit.agent.timing", "from edgekit.errors import EdgekitError", True),
        ("edgekit.agent.timing", "from edgekit import __version__", False),
        ("edgekit.agent.timing", "from edgekit.agent.sensors import read", False),
        ("edgekit.data.images", "from edgekit.agent.preprocess import resize", False),
        ("edgekit.data.images", "from edgekit.agent import preprocess", False),
        ("edgekit.data.images", "from edgekit.agent.errors import AgentError", False),
        ("edgekit.data.images", "from edgekit.agent.timing import time_it", True),
        ("edgekit.formats.table", "from edgekit.agent.runtimes import onnx", True),
        ("edgekit.errors", "from edgekit.schema.base import Record", True),
    ],
)
def test_the_reader_of_imports_sees_what_it_must(module, source, refused):
    assert bool(broken(module, imported(source, module, is_package=False))) is refused


def test_a_relative_import_of_a_package_counts_from_itself():
    assert imported("from .base import Record", "edgekit.schema", is_package=True) == {"edgekit.schema.base.Record"}
    assert imported("from .base import Record", "edgekit.schema.find", is_package=False) == {
        "edgekit.schema.base.Record"
    }


HEAVY = ("torch", "onnx", "onnxruntime", "litert_torch", "sklearn", "scipy", "accelerate", "matplotlib")


def test_commands_that_only_look_import_no_torch():
    commands = [
        ["--help"],
        ["targets", "list"],
        ["targets", "show", "jetson"],
        ["recipes", "list"],
        ["recipes", "show", "quickstart"],
        ["passes", "list"],
        ["passes", "show", "prune"],
        ["schema", "recipe"],
        ["devices", "list"],
        ["build", "--help"],
        ["debug", "parity", "--help"],
        ["plan", "--help"],
        ["init", "--from", "quickstart", "--force", "--target", "jetson"],
        ["history"],
        ["compare", "--help"],
        ["bisect", "--help"],
    ]
    program = f"""
import sys
from edgekit.cli.main import cli
for command in {commands!r}:
    try:
        cli(command, prog_name="edgekit")
    except SystemExit as end:
        assert end.code == 0, (command, end.code)
    heavy = [name for name in {HEAVY!r} if name in sys.modules]
    assert not heavy, (command, heavy)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
