"""Boards and a database for tests; `tests/conftest.py` makes them known everywhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.boards import postgres as pg
from tests.boards.board import Board, board
from tests.boards.host import BoardError, must_work, why_not


@pytest.fixture(scope="session")
def _bookworm() -> Iterator[Board]:
    yield from _start("bookworm")


@pytest.fixture(scope="session")
def _bullseye() -> Iterator[Board]:
    yield from _start("bullseye")


@pytest.fixture
def bookworm_board(_bookworm: Board) -> Iterator[Board]:
    """An arm64 Debian 12 behind sshd, one for all tests of a process; its faults are undone after each test."""
    yield _bookworm
    _bookworm.heal()


@pytest.fixture
def bullseye_board(_bullseye: Board) -> Iterator[Board]:
    """An older one, Debian 11: Python 3.9 and ONNX Runtime 1.16; see `bookworm_board`."""
    yield _bullseye
    _bullseye.heal()


@pytest.fixture(scope="session")
def _postgres_server() -> Iterator[pg.Server]:
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'edgekit[postgres]'")
    need(pg.why_not())
    with pg.postgres() as server:
        yield server


@pytest.fixture
def postgres_url(_postgres_server: pg.Server) -> Iterator[str]:
    """URL for SQLAlchemy of an empty database in PostgreSQL, which goes after the test."""
    with _postgres_server.database() as url:
        yield url


def _start(name: str) -> Iterator[Board]:
    need(why_not())
    running = board(name)
    try:
        made = running.__enter__()
    except BoardError as err:
        if must_work():
            raise
        pytest.skip(f"no board could be made: {err}")
    try:
        yield made
    finally:
        running.__exit__(None, None, None)


def need(reason: str | None) -> None:
    """Skip with the reason; fail in CI, where a test that never ran would pass for one that did."""
    if reason is not None:
        (pytest.fail if must_work() else pytest.skip)(reason)
