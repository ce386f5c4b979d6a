"""CSV files: one sample a line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekit.data.checks import samples_of
from edgekit.data.loaders.files import Parts, check_file
from edgekit.errors import DataError
from edgekit.schema.find import suggest

Column = int | str


@dataclass(frozen=True)
class Table:
    """Cells of a file as text, with the number of the line that each row ends on."""

    path: str
    names: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]


def csv_file(
    path: str | None = None,
    parts: Mapping[str, str] | None = None,
    label: Column | None = None,
    targets: Sequence[Column] = (),
    features: Sequence[Column] = (),
    classes: Sequence[str] = (),
    shape: Sequence[int] = (),
    header: bool = True,
    delimiter: str = ",",
) -> Parts:
    """Numbers of one sample in every line, (N, D) float32, and its class or the numbers to predict.

    A column is named by its header, or by its place, from 0 on, or from -1 on backwards.

    Args:
        path: of the file that is part `all`; or
        parts: name of a part -> path of its file.
        label: column of the class: a whole number, or one of `classes`; the last column where neither this nor
            `targets` is given.
        targets: columns of numbers to predict, (N, len(targets)) float32, instead of a class.
        features: columns that are the sample; none: all others.
        classes: names in the order in which the network answers.
        shape: of a sample, whose columns are taken row by row, such as [49, 10]; none: (D,).
        header: whether the first line names the columns.

    Raises:
        DataError: no such file or column, or a cell that is no number, named by line and column.
    """
    files = {"all": path} if parts is None else dict(parts)
    if (path is None) == (parts is None):
        raise DataError("neither or both of path and parts", "loader csv, arguments", "name one file, or one a part")
    if label is not None and targets:
        raise DataError("both label and targets", "loader csv, arguments", "a network learns a class, or numbers")
    made = {}
    for part, name in files.items():
        table = _read(str(name), header, delimiter)
        wanted = [_column(table, column) for column in (targets or [-1 if label is None else label])]
        labels = _numbers(table, wanted) if targets else _classes(table, wanted[0], classes)
        taken = [_column(table, column) for column in features] or [
            place for place in range(len(table.names)) if place not in wanted
        ]
        inputs = _numbers(table, taken)
        if shape:
            if math.prod(shape) != len(taken):
                raise DataError(
                    f"{len(taken)} columns for a sample of shape {list(shape)}", table.path, "correct shape or features"
                )
            inputs = inputs.reshape(len(inputs), *shape)
        made[part] = samples_of([inputs], labels, table.path)
    return made


def _read(path: str, header: bool, delimiter: str) -> Table:
    check_file(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise DataError(f"not text in UTF-8: {err}", path, "save it as UTF-8") from err
    if len(delimiter) != 1:
        raise DataError(f"delimiter is {delimiter!r}", path, "give one character")
    rows, lines = [], []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            if row:
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except csv.Error as err:
        raise DataError(f"not a CSV file: {err}", f"{path}, line {reader.line_num}", "save it again") from err
    names = tuple(rows.pop(0) if rows and header else map(str, range(len(rows[0]) if rows else 0)))
    lines = lines[1:] if header else lines
    if not rows:
        raise DataError("there are no samples", path, "give one line for each sample, after the header")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(names):
            raise DataError(
                f"{len(row)} columns, and the first line has {len(names)}", f"{path}, line {line}", "correct the line"
            )
    return Table(path, names, rows, lines)


def _column(table: Table, column: Column) -> int:
    if isinstance(column, int) and not isinstance(column, bool):
        if not -len(table.names) <= column < len(table.names):
            raise DataError(f"no column {column}", table.path, f"there are {len(table.names)}, from 0 on")
        return column % len(table.names)
    if column not in table.names:
        raise DataError(f"no column is called {column!r}", table.path, suggest(str(column), table.names, "columns"))
    return table.names.index(column)


def _numbers(table: Table, columns: Sequence[int]) -> NDArray[np.float32]:
    """(N, len(columns)).

    Raises:
        DataError: a cell is no finite number of float32.
    """
    try:
        found = np.array([[row[column] for column in columns] for row in table.rows]).astype(np.float64)
        found = np.asarray(found)
    except ValueError:
        found = np.full((len(table.rows), len(columns)), np.nan)
        for place, row in enumerate(table.rows):
            found[place] = [_number(row[column]) for column in columns]
    bad = np.argwhere(~(np.abs(found) <= np.finfo(np.float32).max))
    if len(bad):
        row, place = bad[0].tolist()
        cell = table.rows[row][columns[place]]
        raise DataError(
            f"{cell!r} is no finite number" if cell else "the cell is empty",
            _where(table, row, columns[place]),
            "correct it or leave the line out; name a column of classes in `label`, leave others out by `features`",
        )
    return found.astype(np.float32)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _classes(table: Table, column: int, classes: Sequence[str]) -> NDArray[np.int64]:
    given = [row[column] for row in table.rows]
    if classes and any(cell not in classes for cell in given) and all(cell.isdecimal() for cell in given):
        classes = ()  # whole numbers are indices already; `classes` only names them
    if classes:
        for row, cell in enumerate(given):
            if cell not in classes:
                raise DataError(
                    f"no class is called {cell!r}", _where(table, row, column), suggest(cell, classes, "classes")
                )
        return np.array([list(classes).index(cell) for cell in given], np.int64)
    for row, cell in enumerate(given):
        if not cell.isdecimal():
            names = ", ".join(sorted(set(given))[:20])
            raise DataError(
                f"{cell!r} is no class index",
                _where(table, row, column),
                f"name the classes in the order in which the network answers, such as `classes: [{names}]`; "
                "for numbers to predict name their columns in `targets`",
            )
    return np.array([int(cell) for cell in given], np.int64)


def _where(table: Table, row: int, column: int) -> str:
    return f"{table.path}, line {table.lines[row]}, column {table.names[column]}"
