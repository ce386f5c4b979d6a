"""A store of profiles on every database that is supported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.store.profiles import ProfileStore


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What names a database that is empty and still unopened; PostgreSQL where a server can be had."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'deep' / 'profiles.db'}"
    try:
        return str(request.getfixturevalue("postgres_url"))
    except pytest.FixtureLookupError:
        pytest.skip("no fixture postgres_url: tests/boards/fixtures.py is not loaded")


@pytest.fixture
def store(url: str) -> Iterator[ProfileStore]:
    """An empty store."""
    with ProfileStore(url) as opened:
        yield opened
