"""Which loader reads a file or a folder, and with which arguments: told by names, without reading the samples."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.errors import DataError

_INPUTS = ("x", "inputs", "input", "images", "image", "data", "features", "samples", "audio", "mfcc")
_LABELS = ("y", "labels", "label", "targets", "target", "classes", "t")
_PARTS = {
    "train": "train", "training": "train", "tr": "train", "test": "test", "testing": "test", "te": "test",
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


def find_data_source(given: str, parts: Mapping[str, Sequence[str]] | None = None) -> DataSource:
    """How to read what `given` names: an .npz file, or package.module:function.

    Args:
        parts: of an .npz file: name of a part -> its arrays of inputs and labels, where names do not tell them.

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
    kind = "a folder" if path.is_dir() else f"a file of {path.suffix or 'no known kind'}"
    raise DataError(f"{kind} that no loader is known for", given, "write a function: --data module:function")


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
