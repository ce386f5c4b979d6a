"""Where recipes, targets, calibration sets and devices.yaml lie: the user's own before the shipped."""

from __future__ import annotations

import difflib
import importlib.resources
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgekit.errors import SchemaError

Kind = Literal["recipe", "target", "calibration set"]
FOLDERS: Mapping[Kind, str] = {"recipe": "recipes", "target": "targets", "calibration set": "calib"}
DEVICES = "devices.yaml"


@dataclass(frozen=True)
class Found:
    """A file, and the shipped file that it stands in for; `shipped` is None where it is itself shipped, or new."""

    path: Path
    shipped: Path | None


def shipped_folder() -> Path:
    """The folder that holds `targets/`, `calib/`, `recipes/` and `devices.yaml`, in a wheel and in a checkout.

    Raises:
        SchemaError: neither is there, so the installation is incomplete.
    """
    package = Path(str(importlib.resources.files("edgekit")))
    for folder in (package / "shipped", package.parent):
        if (folder / "targets").is_dir() and (folder / DEVICES).is_file():
            return folder
    raise SchemaError("the shipped targets are missing", str(package), "reinstall edgekit")


def find(kind: Kind, name_or_path: str | Path, cwd: Path | None = None) -> Found:
    """The file that a path or a name means; a name is looked up in `cwd`, then among the shipped.

    Raises:
        SchemaError: no such file.
    """
    base = Path.cwd() if cwd is None else cwd
    text = str(name_or_path)
    known = names(kind, base)
    if isinstance(name_or_path, Path) or text.endswith((".yaml", ".yml")) or "/" in text:
        path = base / text
        if path.is_file():
            return Found(path, _shadowed(path, shipped_folder() / FOLDERS[kind] / path.name))
        raise SchemaError(f"no {kind} file {text!r}", str(base), suggest(path.stem, known, f"{kind}s"))
    if text not in known:
        raise SchemaError(f"no {kind} is called {text!r}", searched(kind, base), suggest(text, known, f"{kind}s"))
    return Found(known[text], _shadowed(known[text], shipped_folder() / FOLDERS[kind] / f"{text}.yaml"))


def find_devices(path: Path | None = None, cwd: Path | None = None) -> Found:
    """`path`, else devices.yaml of the working directory, else the shipped one."""
    shipped = shipped_folder() / DEVICES
    own = path if path is not None else (Path.cwd() if cwd is None else cwd) / DEVICES
    if own.is_file():
        return Found(own, _shadowed(own, shipped))
    if path is not None:
        raise SchemaError("no such devices file", str(path), f"leave it out to use ./{DEVICES} or the shipped one")
    return Found(shipped, None)


def names(kind: Kind, cwd: Path | None = None) -> dict[str, Path]:
    """Every name of a kind and its file, sorted; the working directory's before the shipped of the same name."""
    base = Path.cwd() if cwd is None else cwd
    files: dict[str, Path] = {}
    for folder in (shipped_folder() / FOLDERS[kind], base / FOLDERS[kind]):
        files.update({path.stem: path for path in folder.glob("*.yaml")})
    return dict(sorted(files.items()))


def suggest(name: str, known: Iterable[str], what: str) -> str:
    """A fix for a mistyped name: the nearest of `known`, then all of them."""
    choices = list(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    listed = f"{what}: {', '.join(choices) or 'none'}"
    return f"did you mean {near[0]!r}? {listed}" if near else listed


def searched(kind: Kind, cwd: Path) -> str:
    """Where a name of this kind is looked up, in words."""
    return f"{cwd / FOLDERS[kind]} and the shipped {FOLDERS[kind]}"


def _shadowed(path: Path, shipped: Path) -> Path | None:
    return shipped if shipped.is_file() and not path.samefile(shipped) else None
