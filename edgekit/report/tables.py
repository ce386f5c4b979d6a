"""The one style of table in the terminal: a rule under the heading, no verticals; cells are shown as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_BOX = box.Box("    \n    \n ── \n    \n    \n    \n    \n    \n")
_GAP = 2  # blanks between two columns


def plain_table(*columns: tuple[str, str]) -> Table:
    """An empty table; each column is (heading, "l" or "r")."""
    table = WordTable(box=_BOX, show_edge=False, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    for heading, side in columns:
        table.add_column(heading, justify="right" if side == "r" else "left", overflow="fold")
    return table


class WordTable(Table):
    """A table whose lines break at blanks and not within names, as far as the console is wide enough."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it with the widest columns narrowed first, none of them below its longest word."""
        cells = [[str(text) for text in (column.header, *column.cells)] for column in self.columns]
        natural = [max(_longest(text.splitlines()) for text in column) for column in cells]
        words = [max(_longest(text.split()) for text in column) for column in cells]
        widths = _narrowed(natural, words, options.max_width - _GAP * (len(self.columns) - 1))
        for i, column in enumerate(self.columns):
            column.width = widths[i] if widths else None
        return super().__rich_console__(console, options)


def _narrowed(natural: Sequence[int], least: Sequence[int], room: int) -> list[int] | None:
    """Widths that fit into `room`; None where even the least do not."""
    widths = list(natural)
    while sum(widths) > room:
        wide = [i for i, width in enumerate(widths) if width > least[i]]
        if not wide:
            return None
        widths[max(wide, key=widths.__getitem__)] -= 1
    return widths


def _longest(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts), default=0)


def add_row(table: Table, *cells: str | Text) -> None:
    """A row whose cells are shown as they are: rich would read a bare string as markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))
