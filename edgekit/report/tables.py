"""The one style of table in the terminal: a rule under the heading, no verticals; cells are shown as they are."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

_BOX = box.Box("    \n    \n ── \n    \n    \n    \n    \n    \n")


def plain_table(*columns: tuple[str, str], whole: str = "") -> Table:
    """An empty table; each column is (heading, "l" or "r").

    Args:
        whole: heading of the column whose cells are never broken over lines.
    """
    table = Table(box=_BOX, show_edge=False, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    for heading, side in columns:
        no_wrap = bool(whole) and heading == whole
        table.add_column(heading, justify="right" if side == "r" else "left", overflow="fold", no_wrap=no_wrap)
    return table


def add_row(table: Table, *cells: str | Text) -> None:
    """A row whose cells are shown as they are: rich would read a bare string as markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))
