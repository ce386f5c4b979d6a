"""Which loader reads a file or a folder, and with which arguments: told by names, without reading the samples."""

from __future__ import annotations

import csv
import math
import re
import tarfile
import wave
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.errors import DataError

_INPUTS = ("x", "inputs", "input", "images", "image", "data", "features", "samples", "audio", "mfcc")
_LABELS = ("y", "labels", "label", "class", "targets", "target", "classes", "t")
_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_LOOKED_AT = 100  # recordings whose headers are read
_PARTS = {
    "train": "train", "training": "train", "tr": "train",
    "test": "test", "testing": "test", "te": "test", "t10k": "test",
    "val": "selection", "valid": "selection", "validation": "selection", "dev": "selection",
    "selection": "selection", "calibration": "calibration", "calib": "calibration",
}  # fmt: skip
ALL = "all"


@dataclass(frozen=True)
class DataSource:
    """How samples are read: by a function of the user's, or by a loader with arguments."""

    function: str | None = None
    loader: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


def find_data_source(
    given: str, parts: Mapping[str, Sequence[str]] | None = None, shape: Sequence[int] = ()
) -> DataSource:
    """How to read what `given` names: a file or a folder that a loader reads, or package.module:function.

    Args:
        parts: of an .npz file: name of a part -> its arrays of inputs and labels, where names do not tell them.
        shape: of the network's input, batch first, where it is known: images are read so.

    Raises:
        DataError: there is nothing there, or no loader reads it.
    """
    path = Path(given)
    if ":" in given and not path.exists():
        return DataSource(function=given)
    if not path.exists():
        raise DataError("there is no such file or folder", given, "name a file, a folder, or package.module:function")
    if path.suffix == ".npz":
        return DataSource(loader="npz", arguments={"path": given, "parts": dict(parts or npz_parts(path))})
    if path.suffix in (".csv", ".tsv"):
        return DataSource(loader="csv", arguments=csv_arguments(path))
    names = _names_in(path)
    if any(_is_idx(name) for name in names):
        return DataSource(loader="idx", arguments={"folder": given, "parts": idx_parts(names, given)})
    for suffixes, loader in ((_IMAGES, "image_folder"), ((".wav",), "wav_folder")):
        found = [name for name in names if name.lower().endswith(suffixes)]
        if found:
            more = _image_arguments(shape) if loader == "image_folder" else _wav_arguments(path, found)
            return DataSource(loader=loader, arguments={"path": given, **_folders(found), **more})
    kind = "a folder" if path.is_dir() else f"a file of {path.suffix or 'no known kind'}"
    raise DataError(f"{kind} that no loader is known for", given, "write a function: --data module:function")


def csv_arguments(path: Path) -> dict[str, Any]:
    """Which column is the label, and of what kind: a class by number or by name, or a number to predict.

    The label is the column called label, class, target or y, else the last.

    Raises:
        DataError: it is no table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            rows = [row for row in csv.reader(file, delimiter=delimiter) if row]
    except (UnicodeDecodeError, csv.Error) as err:
        raise DataError(f"no table of text: {err}", str(path), "save it as UTF-8 with commas") from err
    if len(rows) < 2 or len({len(row) for row in rows}) != 1:
        raise DataError("lines of different lengths, or fewer than two", str(path), "give one sample in every line")
    header = not all(_is_number(cell) for cell in rows[0])
    named = [i for i, cell in enumerate(rows[0]) if header and cell.strip().lower() in _LABELS]
    column = named[0] if named else -1
    values = {row[column] for row in rows[1 if header else 0 :]}
    arguments: dict[str, Any] = {"path": str(path)} | ({} if header else {"header": False})
    arguments |= {"delimiter": delimiter} if delimiter != "," else {}
    name = rows[0][column] if header else len(rows[0]) - 1
    if not all(_is_number(value) for value in values):
        return {**arguments, "label": name, "classes": sorted(values)}
    if any(float(value) != int(float(value)) for value in values):
        return {**arguments, "targets": [name]}
    return {**arguments, "label": name}


def idx_parts(names: Sequence[str], where: str) -> dict[str, list[str]]:
    """Name of a part -> files of its images and its labels, as `train-images-idx3-ubyte` tells.

    Raises:
        DataError: names do not tell which labels belong to which images.
    """
    roles: dict[str, dict[str, str]] = {}
    for name in sorted(names):
        told = _part_and_role(name) if _is_idx(name) else None
        if told is not None:
            roles.setdefault(told[0], {}).setdefault(told[1], name)
    parts = {part: [found["inputs"], found["labels"]] for part, found in roles.items() if len(found) == 2}
    if not parts:
        listed = ", ".join(sorted(name for name in names if _is_idx(name)))
        raise DataError(
            f"files {listed}: their names do not say which are inputs and which labels",
            where,
            "call them train-images-idx3-ubyte and train-labels-idx1-ubyte, and so on",
        )
    return parts


def npz_parts(path: Path) -> dict[str, list[str]]:
    """Name of a part -> the arrays of its inputs and of its labels, as the names of the arrays tell.

    Raises:
        DataError: not an .npz file, or its names do not say what is what.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    except (zipfile.BadZipFile, OSError) as err:
        raise DataError(f"not an .npz file: {err}", str(path), "save it with numpy.savez") from err
    roles: dict[str, dict[str, str]] = {}
    for name in names:
        told = _part_and_role(name)
        if told is not None:
            roles.setdefault(told[0], {}).setdefault(told[1], name)
    parts = {part: [found["inputs"], found["labels"]] for part, found in roles.items() if len(found) == 2}
    used = Counter(name for pair in parts.values() for name in pair)
    if not parts or any(count > 1 for count in used.values()):
        raise DataError(
            f"arrays {', '.join(names) or 'none'}: their names do not say which are inputs and which labels",
            str(path),
            "say it: --part train=INPUTS,LABELS --part test=INPUTS,LABELS",
        )
    return parts


def _part_and_role(name: str) -> tuple[str, str] | None:
    """`x_train` -> ('train', 'inputs'); `test_labels` -> ('test', 'labels'); `images` -> ('all', 'inputs')."""
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    role = next((kind for kind, known in (("inputs", _INPUTS), ("labels", _LABELS)) for w in words if w in known), None)
    part = next((_PARTS[word] for word in words if word in _PARTS), ALL)
    return None if role is None else (part, role)


def _names_in(path: Path) -> list[str]:
    """Paths of files below a folder or in a tar; none in any other file."""
    if path.is_dir():
        return sorted(entry.relative_to(path).as_posix() for entry in path.rglob("*") if entry.is_file())
    if not tarfile.is_tarfile(path):
        return []
    with tarfile.open(path) as archive:
        return sorted(member.name.removeprefix("./") for member in archive if member.isfile())


def _is_idx(name: str) -> bool:
    return re.search(r"idx\d", name.rpartition("/")[2]) is not None


def _folders(names: Sequence[str]) -> dict[str, Any]:
    """`parts` where every file lies in a folder called train, test, ...; nothing where they do not."""
    tops = {name.partition("/")[0] for name in names if name.count("/") > 1}
    if not tops or not all(top.lower() in _PARTS for top in tops) or any(name.count("/") < 2 for name in names):
        return {}
    return {"parts": {_PARTS[top.lower()]: top for top in sorted(tops)}}


def _image_arguments(shape: Sequence[int]) -> dict[str, Any]:
    if len(shape) != 4:
        return {}
    channels, size = (shape[1], shape[2:]) if shape[1] in (1, 3) else (shape[3], shape[1:3])
    return {"resize": list(size)} | ({"channels": channels} if channels == 1 else {})


def _wav_arguments(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Rate and length of the recordings that were looked at; of a tar, which would be read whole, those of speech."""
    if not path.is_dir():
        return {"rate_hz": 16_000, "samples": 16_000}
    rates, lengths = Counter[int](), Counter[int]()
    for name in names[:_LOOKED_AT]:
        try:
            with wave.open(str(path / name)) as file:
                rates[file.getframerate()] += 1
                lengths[file.getnframes()] += 1
        except (wave.Error, EOFError) as err:
            raise DataError(f"no recording: {err}", str(path / name), "save it as PCM, or leave it out") from err
    found: dict[str, Any] = {"rate_hz": rates.most_common(1)[0][0]}
    return found if len(lengths) == 1 else {**found, "samples": lengths.most_common(1)[0][0]}


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
