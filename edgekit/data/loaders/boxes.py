"""Boxes of images for detectors: read from a list, moved as the images were resized."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.agent.preprocess import resized_place
from edgekit.data.loaders.files import class_indices, find_list
from edgekit.errors import DataError

_COLUMNS = ["file", "label", "x_min", "y_min", "x_max", "y_max"]
_FILLED = -1.0  # class of a row that holds no box

Boxes = NDArray[np.float32]


def read_boxes(path: str, root: str, classes: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """A CSV file with one box a line: file, class, x_min, y_min, x_max, y_max in pixels of the file.

    A line with the file alone, and nothing in the other columns, says that there is no box in it.

    Args:
        path: of the list; else a file of that name in the folder `root`.
        classes: names in the order in which the network answers; empty: those that occur, sorted.

    Returns:
        Name of a file -> (K, 5) rows of class, x_min, y_min, x_max, y_max.

    Raises:
        DataError: no such file, a line that is no box, or classes that do not fit.
    """
    place = find_list(path, root)
    rows: list[tuple[str, str, list[float]]] = []
    empty: set[str] = set()
    reader = csv.reader(io.StringIO(Path(place).read_text(encoding="utf-8-sig"), newline=""))
    for row in reader:
        cells = [cell.strip() for cell in row]
        if not cells or (reader.line_num == 1 and cells == _COLUMNS):
            continue
        where = f"{place}, line {reader.line_num}"
        name = cells[0].removeprefix("./")
        if len(cells) in (1, 6) and not any(cells[1:]):
            empty.add(name)
            continue
        corners = _corners(cells[2:])
        if len(cells) != 6 or corners is None:
            raise DataError(f"{','.join(row)!r} is no box", where, f"write {','.join(_COLUMNS)}, in pixels of the file")
        rows.append((name, cells[1], corners))
    indices = class_indices([label for _, label, _ in rows], classes, str(place))
    found: dict[str, list[list[float]]] = {name: [] for name in empty}
    for (name, _, corners), index in zip(rows, indices.tolist(), strict=True):
        found.setdefault(name, []).append([index, *corners])
    return {name: np.array(own, np.float64).reshape(-1, 5) for name, own in found.items()}


def place_boxes(
    boxes: NDArray[np.float64], size: tuple[int, int], resize: Mapping[str, Any] | None, where: str
) -> NDArray[np.float64]:
    """Boxes (K, 5) of an image of `size` (height, width), in pixels of the resized one.

    Args:
        resize: an edgekit.schema.tensors.Resize as a dict; None: the image keeps its size.

    Raises:
        DataError: a box reaches out of the image.
    """
    tall, wide = size
    outside = (boxes[:, 1:] < 0).any(1) | (boxes[:, 3] > wide) | (boxes[:, 4] > tall)
    if outside.any():
        raise DataError(
            f"box {boxes[int(outside.argmax()), 1:].tolist()} reaches out of the image of {wide} x {tall} pixels",
            where,
            "cut the box at the image's edge; x goes to the right, y down, both from 0",
        )
    if resize is None:
        return boxes
    (height, width), (top, left) = resized_place(resize, tall, wide)
    scale = np.array([width / wide, height / tall] * 2)
    return np.concatenate([boxes[:, :1], boxes[:, 1:] * scale + np.array([left, top] * 2)], axis=1)


def fill_boxes(images: Sequence[NDArray[np.float64]], most: int) -> Boxes:
    """(N, most, 5) of boxes (K, 5) for each image, filled up with rows of class -1."""
    made = np.zeros((len(images), most, 5), np.float32)
    made[..., 0] = _FILLED
    for row, boxes in zip(made, images, strict=True):
        row[: len(boxes)] = boxes
    return made


def _corners(cells: Sequence[str]) -> list[float] | None:
    try:
        x_min, y_min, x_max, y_max = (float(cell) for cell in cells)
    except ValueError:
        return None
    numbers = [x_min, y_min, x_max, y_max]
    return numbers if all(map(math.isfinite, numbers)) and x_min < x_max and y_min < y_max else None
