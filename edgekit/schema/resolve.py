"""From what is written to what is meant: presets, `--set` and the environment. Plain data in, plain data out."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.errors import SchemaError
from edgekit.schema.find import FOLDERS, Found, find, shipped_folder, suggest
from edgekit.schema.validate import Key, place
from edgekit.schema.yaml_file import parse_yaml, read_mapping

_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")
LOCATION_KEYS = frozenset({"path", "folder", "file"})


def read_with_presets(found: Found, cwd: Path) -> tuple[dict[str, Any], tuple[Found, ...]]:
    """A recipe's mapping laid over that of the recipe it `extends`, and so on; and every file read, itself first.

    `extends` is a path from the file's own folder, or a name. Mappings are merged key by key; anything else replaces.
    A file that extends its own name means the shipped one.

    Raises:
        SchemaError: a file is absent or unreadable, `extends` is not a string, or a file extends itself at the end.
    """
    chain = [found]
    layers = [read_mapping(found.path)]
    while "extends" in layers[-1]:
        wanted, file = layers[-1].pop("extends"), chain[-1].path
        if not isinstance(wanted, str):
            raise SchemaError(f"{wanted!r} is not a file or a name", f"{file}: extends", "name one recipe")
        parent = _preset(wanted, file, chain, cwd)
        if any(parent.path.samefile(earlier.path) for earlier in chain):
            names = " -> ".join(str(earlier.path) for earlier in (*chain, parent))
            raise SchemaError(f"presets go in a circle: {names}", f"{file}: extends", "remove one `extends`")
        chain.append(parent)
        layers.append(read_mapping(parent.path))
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        merged = merge(merged, layer)
    return merged, tuple(chain)


def _preset(wanted: str, file: Path, chain: Sequence[Found], cwd: Path) -> Found:
    if wanted.endswith((".yaml", ".yml")):
        try:
            return find("recipe", file.parent / wanted, cwd)
        except SchemaError as err:
            raise SchemaError(f"no recipe file {wanted!r}", f"{file}: extends", err.fix) from err
    try:
        named = find("recipe", wanted, cwd)
    except SchemaError as err:
        raise SchemaError(err.what, f"{file}: extends", err.fix) from err
    shipped = shipped_folder() / FOLDERS["recipe"] / f"{wanted}.yaml"
    if shipped.is_file() and any(named.path.samefile(earlier.path) for earlier in chain):
        return Found(shipped, None)
    return named


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`: mappings key by key, everything else replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def parse_assignment(text: str) -> tuple[tuple[Key, ...], Any]:
    """`steps.2.prune.budget.macs_ratio=0.5` -> (('steps', 2, 'prune', 'macs_ratio'), 0.5); the value is YAML.

    Raises:
        SchemaError: no `=`, an empty key, or a value that is not YAML.
    """
    written, equals, value = text.partition("=")
    keys = tuple(int(part) if part.isdigit() else part for part in written.strip().split("."))
    if not equals or "" in keys:
        raise SchemaError(
            f"{text!r} is not key=value", "--set", "write --set seed=3 or --set steps.2.prune.budget.macs_ratio=0.5"
        )
    return keys, parse_yaml(value, f"--set {text}")


def assign(content: Any, keys: Sequence[Key], value: Any, where: str) -> Any:
    """A copy of `content` with `value` at `keys`. Mappings on the way are made, places in a list must exist.

    A pass name after a step's number stands for its options.

    Raises:
        SchemaError: the path leads into something that is neither mapping nor list, past the end of a list, or names
            another pass than the step has.
    """
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(content, list):
        if not isinstance(key, int) or key >= len(content):
            raise SchemaError(
                f"no item {key!r} in a list of {len(content)}", where, f"count from 0 to {len(content) - 1}"
            )
        return [assign(item, rest, value, where) if i == key else item for i, item in enumerate(content)]
    if content is not None and not isinstance(content, dict):
        raise SchemaError(f"{content!r} has no key {key!r}", where, "set the whole value, or correct the path")
    written = dict(content or {})
    written[str(key)] = assign(written.get(str(key)), rest, value, where)
    return written


def assign_step(steps: Any, keys: Sequence[Key], value: Any, where: str) -> Any:
    """`assign` below `steps:`; a step written as a bare name takes options, and a step keeps its one pass."""
    if isinstance(steps, list) and len(keys) > 1 and isinstance(keys[0], int) and keys[0] < len(steps):
        name, options = step_parts(steps[keys[0]])
        if name is not None:
            if keys[1] != name:
                near = suggest(str(keys[1]), [name], "step")
                fix = near if near.startswith("did you mean") else f"steps: {_numbered(steps)}"
                raise SchemaError(f"step {keys[0]} is {name!r}, not {keys[1]!r}", where, fix)
            changed = assign({name: options}, keys[1:], value, where)
            return [changed if i == keys[0] else step for i, step in enumerate(steps)]
    if isinstance(steps, list) and keys and not (isinstance(keys[0], int) and keys[0] < len(steps)):
        raise SchemaError(f"no step has the number {keys[0]!r}", where, f"steps: {_numbered(steps)}")
    return assign(steps, keys, value, where)


def _numbered(steps: Sequence[Any]) -> str:
    return ", ".join(f"{i} is {step_parts(step)[0]}" for i, step in enumerate(steps)) or "none"


def step_parts(step: Any) -> tuple[str | None, Any]:
    """The pass name and the options of a step in any of its spellings; (None, step) where it has none of them."""
    if isinstance(step, str):
        return step, {}
    if isinstance(step, dict) and set(step) <= {"name", "options"} and isinstance(step.get("name"), str):
        return step["name"], step.get("options") or {}
    if isinstance(step, dict) and len(step) == 1:
        ((name, options),) = step.items()
        return name, options or {}
    return None, step


def references(content: Any) -> tuple[str, ...]:
    """Names of the environment variables that `content` cannot be read without: `${NAME}`, without a default."""
    if isinstance(content, dict):
        found = [name for value in content.values() for name in references(value)]
    elif isinstance(content, list):
        found = [name for value in content for name in references(value)]
    elif isinstance(content, str):
        found = [match[1] for match in _REFERENCE.finditer(content) if match[1] and match[2] is None]
    else:
        found = []
    return tuple(dict.fromkeys(found))


def expand(content: Any, where: str, environment: Mapping[str, str] | None = None, keep_locations: bool = False) -> Any:
    """Strings with `${NAME}` and `${NAME:-default}` replaced; `$${` is a plain `${`.

    `keep_locations` leaves references as written where they say where a file lies: under a key called path, folder or
    file, or beside a slash. That form is digested, so that the same recipe has one digest on every machine, while a
    variable that decides what is built does count.

    Raises:
        SchemaError: a variable is not set and has no default, or `${` is not followed by `NAME}`.
    """
    variables = os.environ if environment is None else environment
    return _expand(content, where, (), variables, keep_locations)


def _expand(content: Any, where: str, keys: tuple[Key, ...], variables: Mapping[str, str], keep: bool) -> Any:
    if isinstance(content, dict):
        return {k: _expand(v, where, (*keys, k), variables, keep) for k, v in content.items()}
    if isinstance(content, list):
        return [_expand(v, where, (*keys, i), variables, keep) for i, v in enumerate(content)]
    if not isinstance(content, str) or "${" not in content:
        return content
    if keep and (keys[-1] in LOCATION_KEYS or "/" in _REFERENCE.sub("", content)):
        return content

    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        if match.group() == "$${":
            return "$${" if keep else "${"  # the kept form is read once more when it is built from a manifest
        if name is None:
            raise SchemaError(
                f"{content!r} has a `${{` without `NAME}}`", place(where, keys), "write ${NAME}, or $${ for a plain ${"
            )
        if variables.get(name):
            return variables[name]
        if default is None:
            fix = f"export {name}=..., or write ${{{name}:-default}}"
            raise SchemaError(f"environment variable {name} is not set", place(where, keys), fix)
        return str(default)

    return _REFERENCE.sub(value, content)
