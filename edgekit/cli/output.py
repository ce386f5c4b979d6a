"""What every command prints with: rich tables for a person, one JSON document under --json, errors in three parts."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

import click
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from edgekit.errors import EdgekitError
from edgekit.report.tables import add_row, plain_table

if TYPE_CHECKING:  # every command prints, and few know manifests: building their schema takes a tenth of a second
    from edgekit.schema.manifest import Override

PIPED_WIDTH = 160
F = TypeVar("F", bound=Callable[..., Any])

json_option: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document instead of tables."
)


def console(stderr: bool = False) -> Console:
    """A console on the current stdout or stderr: no colour and a fixed width when it is not a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty():
        return Console(file=stream, highlight=False)
    return Console(file=cast(IO[str], _Trimmed(stream)), highlight=False, width=PIPED_WIDTH)


class _Trimmed:
    """A text stream without the blanks that fill a table up to the console's width."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return int(self._stream.write(re.sub(r" +$", "", text, flags=re.MULTILINE)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def only_json(as_json: bool) -> Iterator[None]:
    """While this lasts, what anybody else prints goes to stderr: a user's module must not break the one document."""
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        yield


def print_json(document: Any) -> None:
    """`document` as indented JSON on stdout."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> RenderableType:
    """A table under its title; None is an empty cell."""
    drawn = plain_table(*((column, "l") for column in columns))
    for row in rows:
        add_row(drawn, *("" if cell is None else str(cell) for cell in row))
    return Group(Text(title, style="bold cyan"), Padding(drawn, (0, 0, 0, 1)))


def counted(number: int, noun: str) -> str:
    """`1 problem`, `2 problems`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_overrides(overrides: Iterable[Override | None]) -> None:
    """One line on stderr for each file that stands in for a shipped one."""
    for override in overrides:
        if override is not None:
            line = (
                f"{override.path} stands in for the shipped file "
                f"(sha256 {override.digest[:12]} for {override.shipped_digest[:12]})"
            )
            console(stderr=True).print(Text(line, style="yellow"))


def error_document(error: EdgekitError) -> dict[str, dict[str, str]]:
    """What an error prints under --json."""
    kind = type(error).__name__
    return {"error": {"type": kind, "what": error.what, "where": error.where, "fix": error.fix}}


def print_error(error: EdgekitError, as_json: bool) -> None:
    """What failed, where, and what to do: JSON on stdout, or three lines on stderr."""
    if as_json:
        print_json(error_document(error))
        return
    lines = (("error", error.what, "bold red"), ("where", error.where, ""), ("  fix", error.fix, "green"))
    for label, text, style in lines:
        console(stderr=True).print(Text.assemble((f"{label}: ", style), text), soft_wrap=True)
