"""How the pipeline tells what it is doing. The command line draws it; nothing here prints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Update(Protocol):
    """Told how far the work at hand is."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units."""
        ...


class Reporter(Protocol):
    """Told what is being worked on, and what came of it."""

    def task(self, title: str) -> AbstractContextManager[Update]:
        """Work that takes as long as the `with` lasts."""
        ...

    def note(self, line: str) -> None:
        """One finished fact."""
        ...


class Silent:
    """Reports to nobody: the default of the Python API."""

    @contextmanager
    def task(self, title: str) -> Iterator[Update]:
        """Draws nothing."""
        yield _ignore

    def note(self, line: str) -> None:
        """Says nothing."""


def _ignore(done: int, total: int, note: str = "") -> None:
    pass
