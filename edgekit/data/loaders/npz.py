"""Files of NumPy arrays."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.data.checks import samples_of
from edgekit.data.loaders.files import Parts, check_file
from edgekit.errors import DataError
from edgekit.schema.find import suggest

_PLAIN: Mapping[str, Sequence[str]] = MappingProxyType({"all": ("inputs", "labels")})


def npz(path: str, parts: Mapping[str, Sequence[str]] = _PLAIN) -> Parts:
    """Any .npz file of plain arrays.

    Args:
        parts: name of a part -> the keys of its inputs, one for each input of the network, and last that of its labels.

    Raises:
        DataError: no such file or key, or arrays of objects, or of different lengths.
    """
    for part, keys in parts.items():
        check_keys(keys, f"{path}, part {part}", "keys of the inputs and, last, of the labels")
    arrays = read_npz(path, [key for keys in parts.values() for key in keys])
    return {
        part: samples_of([arrays[key] for key in keys[:-1]], arrays[keys[-1]], f"{path}, part {part}")
        for part, keys in parts.items()
    }


def check_keys(keys: object, where: str, wanted: str) -> None:
    """Refuse what is no list of two names at least: of inputs, and last of labels."""
    if isinstance(keys, str) or not isinstance(keys, Sequence) or len(keys) < 2:
        raise DataError(f"{keys!r} is no list of two or more", where, f"give a list: {wanted}")


def read_npz(path: str, keys: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz file by key; nothing is unpickled.

    Raises:
        DataError: no such file or key, or no file of plain arrays.
    """
    check_file(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for key in keys:
                if key not in arrays.files:
                    raise DataError(f"no array {key!r}", path, suggest(key, sorted(arrays.files), "arrays"))
            return {key: arrays[key] for key in keys}
    except (ValueError, TypeError, AttributeError, EOFError, OSError, zipfile.BadZipFile) as err:
        raise DataError(
            f"not an .npz of plain arrays: {err}", path, "save it with numpy.savez, without objects"
        ) from err
