"""`refused`: builds what cannot be built, and shows that it leaves nothing behind but finished steps."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from edgekit.cli.main import cli
from edgekit.schema.resolve import merge
from edgekit.store.steps import StepStore
from tests.edgekit.pipeline.conftest import MODULE, RECIPE

HOME, OUT = Path("home"), Path("dist")


@dataclass(frozen=True)
class Refusal:
    """The three fields of an error, its class and the exit code, and the whole result for whatever else was printed."""

    what: str
    where: str
    fix: str
    kind: str
    exit_code: int
    result: Result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory: own_code.py (a network of one convolution, samples, a metric), own_scale.py and own.yaml.

    EDGEKIT_HOME is `home` in it. Temporary files go beside it, where `refused` looks for what was left. What a test
    imports from it is forgotten again.
    """
    folder, temporary = tmp_path / "work", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    (folder / "own_code.py").write_text(MODULE)
    (folder / "own_scale.py").write_text("SCALE = 1.0\n")
    (folder / "own.yaml").write_text(RECIPE)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EDGEKIT_HOME", str(HOME))
    monkeypatch.delenv("EDGEKIT_DB", raising=False)
    monkeypatch.setenv(
        "TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torch")
    )  # torch's own, among temporary files otherwise
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield folder
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def build(folder: Path) -> Callable[..., Result]:
    """Runs `edgekit build own.yaml --target cpu-x86-64 --json` in `folder`, with more words and a changed recipe."""

    def run(
        *words: str, recipe: str = "own.yaml", over: Mapping[str, Any] | None = None, target: str = "cpu-x86-64"
    ) -> Result:
        if over is not None:
            content = yaml.safe_load((folder / recipe).read_text())
            (folder / recipe).write_text(yaml.safe_dump(merge(content, over), sort_keys=False))
        return CliRunner().invoke(cli, ["build", recipe, "--target", target, "--json", *words])

    return run


@pytest.fixture
def refused(folder: Path, build: Callable[..., Result]) -> Callable[..., Refusal]:
    """Builds what must be refused; gives the error's fields. Nothing half-written may be left.

    Args:
        words: more words of the command line.
        recipe: file or name of the recipe.
        over: laid over the recipe's file first, mappings key by key, as `extends` does.
        target: name of the target.
        exit_code: that the command must end with.
        kept: names in the working directory that were there before, and stay.
        home: of the store, where it is not `home`.
    """

    def run(*words: str, exit_code: int = 1, kept: Sequence[str] = (), home: Path = HOME, **arguments: Any) -> Refusal:
        result = build(*words, **arguments)
        assert result.exit_code == exit_code, result.output
        error = json.loads(result.stdout)["error"]
        assert "a fault in edgekit" not in error["what"], error
        assert all(error[field].strip() for field in ("what", "where", "fix")), error
        assert half_written(folder, kept, home) == []
        return Refusal(error["what"], error["where"], error["fix"], error["type"], exit_code, result)

    return run


def half_written(folder: Path, kept: Sequence[str] = (), home: Path = HOME) -> list[str]:
    """What a refused build must not leave: a bundle or the beginning of one, damaged steps, temporary files."""
    out, steps, temporary = folder / OUT, folder / home / "steps", folder.parent / "temporary"
    found = [path for path in (out, *temporary.glob("*")) if path.exists() and path.name not in kept]
    store = StepStore(steps)
    for path in steps.glob("*/*"):
        # `unfinished` holds checkpoints, which a second build goes on from
        if path.parent.name != "unfinished" and (len(path.name) != 64 or not store.check(path.name)):
            found.append(path)
    return [str(path.relative_to(folder.parent)) for path in found]
