"""What a result depends on besides data: Python source, followed from import to import, and versions of libraries.

Source is read, never imported, so a plan runs nothing of the user's and needs no torch.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import edgekit
from edgekit.store.digests import json_sha256

# Records and messages: what they hold is in a key by value, so their source is not. The package itself only offers
# names for Python, and would lead to everything.
_NO_BEHAVIOUR = ("edgekit.schema", "edgekit.errors")
_DISTRIBUTIONS = {
    "PIL": "pillow",
    "ai_edge_litert": "ai-edge-litert",
    "litert_torch": "litert-torch",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


@dataclass(frozen=True)
class Sources:
    """Digest of every source file that was followed to, and versions of the libraries that they import.

    Two files that differ in comments, docstrings or layout alone are the same.
    """

    digest: str
    libraries: dict[str, str]

    def parts(self) -> dict[str, object]:
        """The same, as parts of a step's key."""
        return {"code": self.digest, "libraries": self.libraries}


def follow_modules(modules: Iterable[str]) -> Sources:
    """Sources of `modules` and of what they import, as far as it lies in the same package or beside the same script."""
    digests: dict[str, str] = {}
    libraries: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in digests or name == "edgekit" or name.startswith(_NO_BEHAVIOUR):
            continue
        path = find_source(name)
        if path is None:
            library = _library(name)
            libraries.update({library[0]: library[1]} if library else {})
            continue
        digests[name], imported = _read(path, name)
        for other in imported:
            if other.partition(".")[0] in _DISTRIBUTIONS or not _same_project(name, other):
                library = _library(other)
                libraries.update({library[0]: library[1]} if library else {})
            else:
                waiting.append(other)
    return Sources(json_sha256(dict(sorted(digests.items()))), dict(sorted(libraries.items())))


def follow_loader(load: Callable[[], object]) -> Sources:
    """Sources of what a table's row imports when it is called, and of the row's own function."""
    text = textwrap.dedent(inspect.getsource(load))
    tree = ast.parse(text)
    found = follow_modules(
        sorted({name for name in _imports(tree, load.__module__, is_package=False) if find_source(name)})
    )
    return Sources(json_sha256({"row": _digest(tree), "modules": found.digest}), found.libraries)


def module_of(reference: str) -> str:
    """`package.module:function` -> `package.module`."""
    return reference.partition(":")[0]


@cache
def library_version(distribution: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def find_source(module: str) -> Path | None:
    """The file that holds `module`, without importing it or its packages; None where there is no such source."""
    parts = module.split(".")
    for root in _roots(parts[0]):
        base = root.joinpath(*parts)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None


def _roots(top: str) -> list[Path]:
    if top == "edgekit":
        return [Path(edgekit.__file__).parent.parent]
    return [Path(entry or ".").resolve() for entry in dict.fromkeys([*sys.path, str(Path.cwd())])]


def _same_project(name: str, other: str) -> bool:
    """Whether `other` belongs to what `name` belongs to: the same package, or plain files in the same folder."""
    first, second = name.partition(".")[0], other.partition(".")[0]
    if first == second:
        return True
    if first == "edgekit" or second == "edgekit" or second in sys.stdlib_module_names:
        return False
    here, there = find_source(first), find_source(second)
    if here is None or there is None or "site-packages" in there.parts:
        return False
    return _root_of(here) == _root_of(there)


def _root_of(path: Path) -> Path:
    return path.parent.parent if path.name == "__init__.py" else path.parent


def _library(name: str) -> tuple[str, str] | None:
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top == "edgekit":
        return None
    distribution = _DISTRIBUTIONS.get(top, top)
    version = library_version(distribution)
    return (distribution, version) if version else None


def _read(path: Path, name: str) -> tuple[str, tuple[str, ...]]:
    """Digest of a file's meaning, and the modules that it imports anywhere."""
    status = path.stat()
    return _parse(path, name, status.st_mtime_ns, status.st_size)


@cache
def _parse(path: Path, name: str, _mtime_ns: int, _size: int) -> tuple[str, tuple[str, ...]]:
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:  # importing it will say so with the line; here it is only bytes
        return hashlib.sha256(path.read_bytes()).hexdigest(), ()
    imported = tuple(sorted(set(_imports(tree, name, is_package=path.name == "__init__.py"))))
    return _digest(tree), imported


def _digest(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _imports(tree: ast.AST, name: str, *, is_package: bool) -> Iterator[str]:
    package = name.split(".") if is_package else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            for alias in node.names:
                if find_source(f"{base}.{alias.name}"):
                    yield f"{base}.{alias.name}"
