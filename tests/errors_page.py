"""docs/errors.md: wrong inputs, tried one after the other, each in an empty folder. `make docs` writes the page."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from click.testing import CliRunner

from edgekit.cli.main import cli
from edgekit.schema.resolve import merge
from tests.edgekit.pipeline.conftest import MODULE, RECIPE

BUILD = ("build", "own.yaml", "--target", "cpu-x86-64")
NO_YAML = "name: own\nmodel: {factory: own_code:network\nseed: 3\n"
HEAD = """# What wrong inputs are answered with

Every error says what was found, where, and what to do next; `--json` gives the same as fields. The exit code is 1, for
wrong usage of the command 2. Nothing half-written is left: no bundle, no part of a step.

This page is made by trying every one of these in an empty folder with a small network (`make docs`).
"""


@dataclass(frozen=True)
class Case:
    """One wrong input.

    Attributes:
        over: laid over the recipe, mappings key by key.
        before: changes the folder further.
    """

    title: str
    over: dict[str, object] | None = None
    before: Callable[[Path], object] = lambda folder: None
    words: tuple[str, ...] = BUILD


def _code(old: str, new: str) -> Callable[[Path], object]:
    assert old in MODULE, old
    return lambda folder: (folder / "own_code.py").write_text(MODULE.replace(old, new))


class _Payload:
    """What unpickles as a call of os.system."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch it-ran",)


def _hostile(folder: Path) -> None:
    with zipfile.ZipFile(folder / "weights.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(_Payload(), protocol=2))
        archive.writestr("archive/version", "3\n")


def _other_shapes(folder: Path) -> None:
    weights = {"0.weight": (8, 1, 3, 3), "0.bias": (8,), "3.weight": (2, 128), "3.bias": (2,)}
    np.savez(folder / "weights.npz", **{name: np.ones(shape, np.float32) for name, shape in weights.items()})


CASES = (
    Case("A pass that there is not", {"steps": ["quantise"]}),
    Case("A key that there is not", {"steps": [{"train": {"epoch": 3}}, "quantize"]}),
    Case(
        "A file that is not YAML",
        before=lambda folder: (folder / "own.yaml").write_text(
            "name: own\nmodel: {factory: own_code:network\nseed: 3\n"
        ),
    ),
    Case("A class of hardware that there is not", words=("build", "own.yaml", "--target", "raspbery-pi-5")),
    Case(
        "A setting of another step",
        words=(*BUILD, "--set", "steps.1.train.epochs=3"),
    ),
    Case("A step after the last", {"steps": ["quantize", {"train": {"epochs": 3}}]}),
    Case("A module that cannot be found", {"model": {"factory": "own_cod:network"}}),
    Case("Weights that are not there", {"model": {"checkpoint": {"path": "weights.pth"}}}),
    Case("Weights that would run code when unpickled", {"model": {"checkpoint": {"path": "weights.pth"}}}, _hostile),
    Case("Weights of another network", {"model": {"checkpoint": {"path": "weights.npz"}}}, _other_shapes),
    Case("A network that does not take its input", {"model": {"inputs": [{"name": "image", "shape": [1, 3, 4, 4]}]}}),
    Case("Samples that are NaN", before=_code("* SCALE", "* np.nan")),
    Case("Labels that the network cannot answer", before=_code("> 0).astype(np.int64)", "> 0).astype(np.int64) + 1")),
    Case("No samples to calibrate with", before=_code('("calibration", 24)', '("calibration", 0)')),
    Case("A format that the target does not run", {"export": {"formats": ["tensorrt"]}}),
    Case("A file where the bundle should lie", before=lambda folder: (folder / "dist").write_text("mine")),
    Case(
        "A file that is no model",
        before=lambda folder: (folder / "m.onnx").write_text("x"),
        words=("profile", "m.onnx"),
    ),
    Case("Two things that have nothing in common", words=("compare", "1", "2")),
)


def render_errors() -> str:
    """The whole page."""
    parts = [HEAD]
    for number, case in enumerate(CASES, 1):
        command = " ".join(case.words)
        parts.append(f"## {number}. {case.title}\n")
        if case.over is not None:
            parts.append(
                f"```yaml\n{yaml.safe_dump(case.over, sort_keys=False, default_flow_style=None).strip()}\n```\n"
            )
        parts.append(f"```\n$ edgekit {command}\n{answer(case)}\n```\n")
    return "\n".join(parts)


def answer(case: Case) -> str:
    """What the command says, with the paths of the folder that it was tried in left out, and its exit code."""
    with _folder() as folder:
        recipe = merge(yaml.safe_load(RECIPE), case.over or {})
        (folder / "own_code.py").write_text(MODULE)
        (folder / "own_scale.py").write_text("SCALE = 1.0\n")
        (folder / "own.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
        case.before(folder)
        result = CliRunner().invoke(cli, list(case.words))
        left = [path.name for path in folder.iterdir() if path.name in ("it-ran", "dist") and not path.is_file()]
        assert not left, (case.title, left)
        lines = result.stderr.splitlines()
        found = next(i for i, line in enumerate(lines) if line.startswith("error: "))
        assert "a fault in edgekit" not in lines[found], lines[found]
        said = "\n".join(lines[found:]).replace(f"{folder}/", "").replace(str(folder), ".")
        return f"{said}\n(exit code {result.exit_code})"


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """An empty working directory; what is imported from it is forgotten again."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)
            for name in ("own_code", "own_scale"):
                sys.modules.pop(name, None)


if __name__ == "__main__":
    sys.stdout.write(render_errors())
