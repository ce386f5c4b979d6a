"""The cache of steps: what a step wrote, found again by the digest of everything it depended on.

    <root>/<first two digits>/<key>/    entry.json and the step's files
    <root>/unfinished/<key>/            checkpoints of a step that was not finished

An entry appears by one rename, so it is whole or not there. The store moves bytes: it opens none of the step's files.
"""

import errno
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field, JsonValue, ValidationError

from edgekit.errors import StoreError
from edgekit.schema.base import Record
from edgekit.store.digests import canonical_json, file_sha256, json_sha256
from edgekit.store.folders import building_folder, remove_folder, sync_folder, sync_tree

_log = logging.getLogger(__name__)
_ENTRY = "entry.json"
_DISK_REFUSES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_KEY = re.compile(r"[0-9a-f]{64}")


class StoredFile(Record):
    """One file of an entry."""

    sha256: str
    size_bytes: int


class Entry(Record):
    """entry.json: the files of a finished step, and what its key was made of."""

    key: str
    parts: dict[str, JsonValue] = Field(description="what the step depended on; the key is its digest")
    files: dict[str, StoredFile] = Field(description="path in the entry -> digest and size")


def step_key(parts: Mapping[str, object]) -> str:
    """Sha256 of the canonical JSON of everything that a step depends on, 64 hexadecimal digits.

    Raises:
        StoreError: a part is not JSON, or is NaN or infinite.
    """
    try:
        return json_sha256(parts)
    except (TypeError, ValueError) as err:
        raise StoreError(
            f"a part of a step's key is not JSON: {err}",
            f"parts {', '.join(map(str, parts))}",
            "give its digest instead",
        ) from err


def explain(old: Mapping[str, object], new: Mapping[str, object]) -> tuple[str, ...]:
    """One line for each part in which two keys differ, sorted; nested mappings are named by dotted path."""
    lines: list[str] = []
    for name in sorted({*old, *new}, key=str):
        if name not in old:
            lines.append(f"{name}: {_short(new[name])} is new")
        elif name not in new:
            lines.append(f"{name}: {_short(old[name])} is gone")
        else:
            before, after = old[name], new[name]
            if isinstance(before, Mapping) and isinstance(after, Mapping):
                lines.extend(f"{name}.{line}" for line in explain(before, after))
            elif canonical_json(before) != canonical_json(after):
                lines.append(f"{name}: {_short(before)} -> {_short(after)}")
    return tuple(lines)


def _short(value: object) -> str:
    text = canonical_json(value).decode("utf-8")
    return text if len(text) <= 60 else f"{text[:57]}..."


class StepStore:
    """Folders of finished steps under `root`, which is made when the first one is put."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, key: str) -> Path | None:
        """The folder of a finished step, or None.

        Names and sizes of its files are compared with its list; `check` compares the digests too. A damaged entry is
        removed with a warning and counts as not stored.
        """
        return self._whole(key, digests=False)

    def check(self, key: str) -> bool:
        """Whether the step is stored and every file has the digest that was noted; a damaged entry is removed."""
        return self._whole(key, digests=True) is not None

    def parts(self, key: str) -> Mapping[str, JsonValue] | None:
        """What the key of a stored step was made of, or None when it is not stored."""
        folder = self.find(key)
        return _read_entry(folder).parts if folder else None

    def put(self, key: str, write: Callable[[Path], None], parts: Mapping[str, object] | None = None) -> Path:
        """Store what `write` leaves in the empty folder it is given; its checkpoints are removed.

        Another process that stores the same key at the same time does no harm: the first one stays.

        Args:
            key: of `step_key`.
            write: writes files into the folder. What it raises passes through, unless the disk is full, and nothing is
                stored.
            parts: what the key was made of, for `why_not_stored`.

        Raises:
            StoreError: `write` left no file, a link, or a file called entry.json; or the disk refused.
        """
        place = self._place(key)
        with _as_store_error(place), building_folder(place.parent, key) as folder:
            try:
                write(folder)
            except OSError as err:
                if err.errno in _DISK_REFUSES:  # the store's own matter, whoever writes; such an error names no file
                    raise
                raise _WriteFailedError(err) from err
            entry = Entry.model_validate({"key": key, "parts": _plain(parts or {}), "files": _list_files(folder)})
            (folder / _ENTRY).write_bytes(canonical_json(entry.model_dump(mode="json")))
            sync_tree(folder)
            self._rename(folder, place, key)
            sync_folder(place.parent)
            checkpoints = self._checkpoints(key)
            if checkpoints.exists():
                remove_folder(checkpoints)
        return place

    def _rename(self, folder: Path, place: Path, key: str) -> None:
        while True:
            try:
                os.rename(folder, place)
                return
            except OSError:
                # Someone was faster. A whole entry stays, a damaged one is removed by `find` and we try again.
                if not place.is_dir():
                    raise
                if self.find(key) is not None:
                    return

    def checkpoints(self, key: str) -> Path:
        """Folder for an unfinished step's checkpoints, made if need be: outlives a kill, goes when the step is put."""
        folder = self._checkpoints(key)
        with _as_store_error(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def why_not_stored(self, parts: Mapping[str, object], alike: Sequence[str] = ("pass",)) -> tuple[str, ...]:
        """Why no entry has these parts: how they differ from the stored step with the fewest differences.

        Args:
            parts: of the step that is looked for.
            alike: parts that must be equal for a stored step to be compared at all.

        Returns:
            Lines of `explain`; ("nothing like it is stored",) when no stored step is alike; empty when it is stored.
        """
        if self.find(step_key(parts)) is not None:
            return ()
        wanted = _plain(parts)
        found = [
            explain(entry.parts, wanted)
            for entry in self._entries()
            if all(name in entry.parts and entry.parts[name] == wanted.get(name) for name in alike)
        ]
        return min(found, key=lambda lines: (len(lines), lines), default=("nothing like it is stored",))

    def _entries(self) -> list[Entry]:
        folders = (path for path in sorted(self.root.glob("??/*")) if _KEY.fullmatch(path.name))
        keys = [path.name for path in folders]
        return [_read_entry(folder) for key in keys if (folder := self.find(key)) is not None]

    def _place(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise StoreError(f"{key!r} is no key of a step", str(self.root), "make keys with step_key")
        return self.root / key[:2] / key

    def _checkpoints(self, key: str) -> Path:
        self._place(key)
        return self.root / "unfinished" / key

    def _whole(self, key: str, *, digests: bool) -> Path | None:
        folder = self._place(key)
        if not folder.is_dir():
            return None
        damage = _damage(folder, key, digests=digests)
        if damage is None:
            return folder
        _log.warning("stored step %s is damaged (%s): removed, and made again", key[:12], damage)
        remove_folder(folder)
        return None


class _WriteFailedError(Exception):
    """Carries an OSError of the step's own writer past the store's own handling."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(cause)
        self.cause = cause


@contextmanager
def _as_store_error(place: Path) -> Iterator[None]:
    try:
        yield
    except _WriteFailedError as err:
        raise err.cause from None
    except OSError as err:
        raise StoreError(
            f"a step could not be stored: {err}", str(place), "check free space and permissions of the store"
        ) from err


def _plain(parts: Mapping[str, object]) -> dict[str, JsonValue]:
    """The parts as they read back from a file: tuples are lists."""
    plain: dict[str, JsonValue] = json.loads(canonical_json(parts))
    return plain


def _read_entry(folder: Path) -> Entry:
    return Entry.model_validate(json.loads((folder / _ENTRY).read_bytes()))


def _damage(folder: Path, key: str, *, digests: bool) -> str | None:
    """What is wrong with an entry, or None."""
    try:
        entry = _read_entry(folder)
        sizes = {path: size for path, size in _walk(folder) if path != _ENTRY}
    except (OSError, ValueError, ValidationError, StoreError) as err:
        return str(err).splitlines()[0]
    if entry.key != key:
        return f"it is the entry of {entry.key[:12]}"
    if sizes.keys() != entry.files.keys():
        return f"files differ from its list: {', '.join(sorted(sizes.keys() ^ entry.files.keys()))}"
    for path, file in entry.files.items():
        if sizes[path] != file.size_bytes:
            return f"{path} has {sizes[path]} bytes, not {file.size_bytes}"
        if digests and file_sha256(folder / path) != file.sha256:
            return f"{path} has another digest"
    return None


def _list_files(folder: Path) -> dict[str, dict[str, object]]:
    files = dict(_walk(folder))
    if not files or _ENTRY in files:
        what = "the step wrote no file" if not files else f"the step wrote a file called {_ENTRY}"
        raise StoreError(what, str(folder), "write the step's own files into the folder it is given")
    return {path: {"sha256": file_sha256(folder / path), "size_bytes": size} for path, size in files.items()}


def _walk(folder: Path) -> list[tuple[str, int]]:
    """Path and size of every file below `folder`, sorted; a link is refused."""
    found: list[tuple[str, int]] = []
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            if path.is_symlink():
                raise StoreError(f"{name} is a link", str(path), "store files, not links")
            if name in files:
                found.append((path.relative_to(folder).as_posix(), path.stat().st_size))
    return sorted(found)
