"""Files that a recipe names as weights or networks: which they are, and whether they are the ones that were meant."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from edgekit.errors import DataError, ModelError

_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def files_of(path: Path, where: str) -> tuple[Path, ...]:
    """The files that `path` stands for: itself, and the shards that it names if it is an index of safetensors.

    A folder stands for its config.json and its safetensors, as transformers writes them.

    Args:
        where: recipe key, for the message.

    Raises:
        DataError: one of them is absent.
        ModelError: an index that is none, or that names files elsewhere.
    """
    if path.is_dir():
        inside = [path / name for name in (_CONFIG, *_WEIGHTS) if name == _CONFIG or (path / name).is_file()]
        return tuple(file for entry in inside for file in files_of(entry, where))
    if not path.is_file():
        raise DataError(
            "there is no such file", f"{where}: {path}", "check the path, and EDGEKIT_DATA where it is used"
        )
    if path.suffix != ".json" or path.name == _CONFIG:
        return (path,)
    try:
        names = sorted(set(json.loads(path.read_bytes())["weight_map"].values()))
        plain = all(Path(name).name == name and name.endswith(".safetensors") for name in names)
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise ModelError(
            "not an index of safetensors files: it has no weight_map",
            f"{where}: {path}",
            "name model.safetensors.index.json, or the one file with the weights",
        ) from err
    if not plain or not names:
        raise ModelError(
            f"the index names {', '.join(map(str, names)) or 'nothing'}",
            f"{where}: {path}",
            "an index may name .safetensors files of its own folder only",
        )
    shards = tuple(path.parent / name for name in names)
    absent = [shard.name for shard in shards if not shard.is_file()]
    if absent:
        raise DataError(
            f"{len(absent)} of {len(shards)} shards are absent, such as {absent[0]}",
            f"{where}: {path}",
            "put them beside their index",
        )
    return (path, *shards)


def sha256_of(files: Sequence[Path]) -> str:
    """Digest of the files one after another: `cat FILE ... | sha256sum`."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as content:
            hashlib.file_digest(content, lambda: digest)
    return digest.hexdigest()


def check_sha256(files: Sequence[Path], expected: str | None, where: str) -> None:
    """Refuse files other than those that were meant. None means any.

    Raises:
        DataError: their digest is another.
    """
    if expected is None:
        return
    digest = sha256_of(files)
    if digest != expected:
        raise DataError(
            f"its sha256 is {digest}", f"{where}: {files[0]}", "get the file that sha256 names, or correct it"
        )
