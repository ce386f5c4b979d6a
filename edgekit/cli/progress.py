"""Drawing what the pipeline reports: a bar or a spinner on a terminal, plain lines elsewhere. Always on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from edgekit.pipeline.progress import Reporter, Silent, Update


def draw_progress(console: Console) -> Reporter:
    """Bars where `console` is a terminal, else a line at the start of each task."""
    return _Bars(console) if console.is_terminal else _Lines(console)


def draw_nothing() -> Reporter:
    """For --json: stdout is one document, and stderr only for errors."""
    return Silent()


class _Bars:
    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def task(self, title: str) -> Iterator[Update]:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            drawn = progress.add_task(title, total=None, note="")

            def update(done: int, total: int, note: str = "") -> None:
                progress.update(drawn, completed=done, total=total, note=note)

            yield update

    def note(self, line: str) -> None:
        self._console.print(Text(line))


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def task(self, title: str) -> Iterator[Update]:
        self.note(f"{title} ...")
        yield _ignore

    def note(self, line: str) -> None:
        self._console.print(Text(line))


def _ignore(done: int, total: int, note: str = "") -> None:
    pass
