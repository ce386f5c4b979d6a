"""What every command prints with: rich tables for a person, one JSON document under --json, errors in three parts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgekit.errors import EdgekitError
from edgekit.schema.manifest import Override

PIPED_WIDTH = 160
F = TypeVar("F", bound=Callable[..., Any])

json_option: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document instead of tables."
)


def console(stderr: bool = False) -> Console:
    """A console on the current stdout or stderr: no colour and a fixed width when it is not a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else PIPED_WIDTH)


def print_json(document: Any) -> None:
    """`document` as indented JSON on stdout."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table whose cells are shown as they are, never read as markup; None is an empty cell."""
    drawn = Table(title=Text(title), title_justify="left", header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return drawn


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
