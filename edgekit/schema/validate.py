"""From plain data to a record, with pydantic's complaints turned into ours."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from edgekit.errors import SchemaError
from edgekit.schema.find import suggest

Key = str | int
R = TypeVar("R", bound=BaseModel)


def validate(
    model: type[R],
    content: Any,
    where: str,
    prefix: Sequence[Key] = (),
    origins: Mapping[tuple[Key, ...], str] | None = None,
) -> R:
    """`content` as a `model`.

    Args:
        where: the file, or the file and the key that `content` stands at.
        prefix: keys between `where` and `content`.
        origins: key paths that came from elsewhere than the file, such as `--set`, and how to call that place.

    Raises:
        SchemaError: the first complaint, unknown keys first, with the number of the others.
    """
    try:
        return model.model_validate(content)
    except ValidationError as err:
        errors = sorted(err.errors(), key=lambda e: e["type"] != "extra_forbidden")
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        first = errors[0]
        keys: tuple[Key, ...] = (*prefix, *first["loc"])
        what, at, fix = _explain(model, first, keys, len(prefix))
        raise SchemaError(what + more, _origin(origins, keys) or place(where, at), fix) from err


def place(where: str, keys: Sequence[Key]) -> str:
    """`kws.yaml` and ('steps', 2) -> `kws.yaml: steps.2`; a place that already ends in keys is continued."""
    if not keys:
        return where
    return f"{where}{'.' if ': ' in where else ': '}{'.'.join(map(str, keys))}"


def _origin(origins: Mapping[tuple[Key, ...], str] | None, keys: tuple[Key, ...]) -> str | None:
    for path, name in (origins or {}).items():
        if keys[: len(path)] == path or (keys and path[: len(keys)] == keys):
            return name
    return None


def _explain(
    model: type[BaseModel], error: ErrorDetails, keys: tuple[Key, ...], skip: int
) -> tuple[str, tuple[Key, ...], str]:
    """What, the keys to name as the place, and the fix."""
    kind, value = error["type"], error["input"]
    last = str(keys[-1]) if keys else ""
    holder = _model_at(model, keys[skip:-1])
    if kind == "extra_forbidden":
        return f"unknown key {last!r}", keys[:-1], suggest(last, holder.model_fields if holder else (), "keys")
    description = holder.model_fields[last].description if holder and last in holder.model_fields else None
    if kind == "missing":
        return f"key {last!r} is missing", keys[:-1], f"add {last}: {description or '...'}"
    if kind == "refusal":
        return error["ctx"]["what"], keys, error["ctx"]["fix"]
    if kind == "literal_error":
        choices = [word.strip("'") for word in re.split(r", | or ", error["ctx"]["expected"])]
        return f"{value!r} is not one of its values", keys, suggest(str(value), choices, "values")
    message = error["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(value, (dict, list)) else f"{value!r}: "
    return (
        f"{shown}{message[:1].lower()}{message[1:]}",
        keys,
        f"{last}: {description}" if description else "correct the value",
    )


def _model_at(model: type[BaseModel], keys: Sequence[Key]) -> type[BaseModel] | None:
    """The record class that stands at `keys` below `model`; None where there is plain data."""
    current: Any = model
    for key in keys:
        found = _record(current)
        if found is not None and isinstance(key, str) and key in found.model_fields:
            current = found.model_fields[key].annotation
        elif found is not None:
            return None
        else:
            current = _element(current)
    return _record(current)


def _record(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(filter(None, map(_record, typing.get_args(annotation))), None)
    return None


def _element(annotation: Any) -> Any:
    """What a tuple or mapping annotation holds, looking through `| None`."""
    for option in (annotation, *typing.get_args(annotation)):
        origin, arguments = typing.get_origin(option), typing.get_args(option)
        if origin is tuple and arguments:
            return arguments[0]
        if origin is dict:
            return arguments[1]
    return None
