"""Where examples are run: in a copy of their folder, as a user would."""

import shutil
import sys
from pathlib import Path

import pytest


@pytest.fixture
def workplace(request, tmp_path, monkeypatch):
    """A copy of the folder that the test's module calls EXAMPLE, as the current one, with a store of its own."""
    shutil.copytree(request.module.EXAMPLE, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEKIT_HOME", raising=False)
    yield tmp_path
    for name in ("net", "data"):  # every example has its own by these names
        sys.modules.pop(name, None)


@pytest.fixture
def workplace_with_data(workplace, monkeypatch, data_folder) -> Path:
    """The same for an example of the real data sets; skips where there are none."""
    monkeypatch.setenv("EDGEKIT_DATA", str(data_folder))
    return workplace
