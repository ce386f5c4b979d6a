import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgekit.cli.main import cli


@pytest.fixture
def edgekit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs `edgekit ...` in an empty working directory, wide enough that no cell is folded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edgekit.cli.output.PIPED_WIDTH", 400)

    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, list(words))

    return run


@pytest.fixture
def edgekit_json(edgekit):
    """The same with --json; gives the exit code and the document."""

    def run(*words: str):
        result = edgekit(*words, "--json")
        return result.exit_code, json.loads(result.stdout)

    return run
