"""Files of a data set: in a folder or in a tar, labelled by folder or by a list. Nothing is unpacked to disk."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.data.samples import RawSamples
from edgekit.errors import DataError
from edgekit.schema.find import suggest

Parts = Mapping[str, RawSamples]

MOST_BYTES = 1 << 28  # of one file; larger ones are no image and no recording of a word


@dataclass(frozen=True)
class Labelled:
    """Decoded files of one part: names, an array for each, and labels (N,)."""

    names: list[str]
    arrays: list[NDArray[Any]]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class File:
    """One file of a data set; `name` is its path in the folder or the tar, with slashes."""

    name: str
    content: bytes


def check_file(path: str | Path) -> None:
    """Refuse a path at which there is no file.

    Raises:
        DataError: names the path.
    """
    if not Path(path).is_file():
        kind = "a folder, not a file" if Path(path).is_dir() else "no such file"
        raise DataError(f"there is {kind}", str(path), "correct the path, or EDGEKIT_DATA where it is used")


def read_files(path: str, suffixes: Collection[str]) -> Iterator[File]:
    """Every file below a folder, or in a tar (also compressed), whose name ends so; hidden ones are left out.

    A folder gives them sorted, a tar in its own order, because going back in a compressed one is slow. A tar's names
    are only names: nothing is written.

    Args:
        suffixes: in lower case, with the dot.

    Raises:
        DataError: neither a folder nor a tar; a member that is a link, leads out of the tar or is far too large.
    """
    root = Path(path)
    if root.is_dir():
        found = sorted((entry.relative_to(root).as_posix(), entry) for entry in root.rglob("*"))
        for name, entry in found:
            if _wanted(name, suffixes) and entry.is_file():
                _check_size(entry.stat().st_size, f"{path}: {name}")
                yield File(name, entry.read_bytes())
    elif root.is_file():
        yield from _read_tar(root, suffixes)
    else:
        raise DataError("there is no such folder or tar", path, "correct the path, or EDGEKIT_DATA where it is used")


def _read_tar(path: Path, suffixes: Collection[str]) -> Iterator[File]:
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                where = f"{path}: {name}"
                if not _wanted(name, suffixes) or member.isdir():
                    continue
                if name.startswith("/") or ".." in PurePosixPath(name).parts:
                    raise DataError("a name that leads out of the tar", where, "pack the folder from inside it")
                if not member.isreg():
                    raise DataError(
                        "a link or a device, and no file",
                        where,
                        "pack the files themselves: tar --dereference --hard-dereference",
                    )
                _check_size(member.size, where)
                file = archive.extractfile(member)
                assert file is not None, name
                yield File(name, file.read())
    except (tarfile.TarError, OSError, EOFError) as err:
        raise DataError(f"not a whole tar: {err}", str(path), "get the file again, or pack it again") from err


def _wanted(name: str, suffixes: Collection[str]) -> bool:
    parts = PurePosixPath(name).parts
    return name.lower().endswith(tuple(suffixes)) and not any(
        part.startswith((".", "__MACOSX")) for part in parts if part not in (".", "..")
    )


def _check_size(size: int, where: str) -> None:
    if size > MOST_BYTES:
        raise DataError(f"a file of {size:,} bytes, more than {MOST_BYTES:,}", where, "leave it out of the data set")


def find_list(path: str, root: str) -> Path:
    """The file at `path`, else that of the same name in the folder `root`.

    Raises:
        DataError: there is neither.
    """
    place = Path(path) if Path(path).is_file() else Path(root) / path
    check_file(place)
    return place


def read_list(path: str, root: str) -> dict[str, str]:
    """A CSV file of two columns, a file's name and its label, with or without the header `file,label`.

    Args:
        path: of the list; else a file of that name in the folder `root`.

    Raises:
        DataError: no such file, or a line that is not two columns, or a file that is listed twice.
    """
    place = find_list(path, root)
    listed: dict[str, str] = {}
    with io.StringIO(place.read_text(encoding="utf-8-sig"), newline="") as text:
        for row in (reader := csv.reader(text)):
            if not row or (reader.line_num == 1 and row == ["file", "label"]):
                continue
            where = f"{place}, line {reader.line_num}"
            if len(row) != 2:
                raise DataError(f"{len(row)} columns", where, "write a file's name and its label")
            name = row[0].strip().removeprefix("./")
            if name in listed:
                raise DataError(f"{name!r} is listed twice", where, "leave one of the lines out")
            listed[name] = row[1].strip()
    return listed


def read_labelled(
    path: str,
    suffixes: Collection[str],
    decode: Callable[[File], NDArray[Any]],
    labels: str,
    classes: Sequence[str],
    parts: Mapping[str, str] | None,
    only: Collection[str] | None = None,
) -> dict[str, Labelled]:
    """The files that have a label, decoded, sorted by name, part by part.

    Args:
        decode: raises DataError where a file is damaged.
        labels: `folder`: the folder that a file lies in is its class; `none`: every label is 0; else a list as
            `read_list` takes it, and files that it does not name are left out.
        classes: names in the order in which the network answers; empty: those that occur, sorted.
        parts: name of a part -> the folder below `path` that holds it; None: one part `all`.
        only: names of the files that count, all of which must be there; None: every file.

    Raises:
        DataError: no file, a file without a class, a listed file that is absent, or classes that do not fit.
    """
    listed = None if labels in ("folder", "none") else read_list(labels, path)
    only = listed if only is None else only
    decoded = {file.name: decode(file) for file in read_files(path, suffixes) if only is None or file.name in only}
    if only is not None:
        _check_listed(only, decoded, path)
    folders = {"all": ""} if parts is None else dict(parts)
    names = {part: _below(folder, decoded, path) for part, folder in folders.items()}
    if labels == "none":
        indices = dict.fromkeys(decoded, 0)
    else:
        named = listed or {name: _class_of(name, folders[part], path) for part in names for name in names[part]}
        used = [name for own in names.values() for name in own]
        indices = dict(zip(used, class_indices([named[name] for name in used], classes, path).tolist(), strict=True))
    return {
        part: Labelled(own, [decoded[name] for name in own], np.array([indices[name] for name in own], np.int64))
        for part, own in names.items()
    }


def class_indices(given: Sequence[str], classes: Sequence[str], where: str) -> NDArray[np.int64]:
    """Index of each name in `classes`; where there are none, in the names that occur, sorted.

    Raises:
        DataError: a name that is no class, or a class that has no sample.
    """
    occur = sorted(set(given))
    known = list(classes) or occur
    for name in occur:
        if name not in known:
            raise DataError(f"no class is called {name!r}", where, suggest(name, known, "classes"))
    for name in known:
        if name not in occur:
            raise DataError(f"class {name!r} has no sample", where, suggest(name, occur, "classes that occur"))
    index = {name: place for place, name in enumerate(known)}
    return np.array([index[name] for name in given], np.int64)


def _below(folder: str, names: Collection[str], path: str) -> list[str]:
    """Names in that folder, sorted; all of them where it is empty.

    Raises:
        DataError: there are none.
    """
    prefix = f"{folder.strip('/')}/" if folder else ""
    found = sorted(name for name in names if name.startswith(prefix))
    if not found:
        folders = sorted({name.partition("/")[0] for name in names if "/" in name})
        fix = suggest(folder, folders, "folders") if folder else "correct the path, or the ends of the files' names"
        raise DataError("there are no files of this kind", f"{path}/{folder}" if folder else path, fix)
    return found


def _class_of(name: str, folder: str, path: str) -> str:
    inside = name.removeprefix(f"{folder.strip('/')}/" if folder else "")
    if "/" not in inside:
        raise DataError(
            f"{name!r} lies in no folder of a class",
            path,
            "sort files into one folder for each class, or name a list in `labels`, or write `labels: none`",
        )
    return PurePosixPath(name).parent.name


def _check_listed(listed: Collection[str], found: Collection[str], where: str) -> None:
    absent = sorted(set(listed) - set(found))
    if absent:
        more = f", and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise DataError(
            f"{absent[0]!r} is listed{more}, and there is no such file",
            where,
            "correct the list: names are paths in the folder or the tar, with slashes",
        )
