"""A JSON Schema in a few words: what a key may hold, and what it holds where it is not written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgekit.schema.base import Record

Named = Callable[[str, Mapping[str, Any]], str | None]
_SIGNS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_KINDS = {"null": "none", "boolean": "true | false", "object": "mapping"}


def values_in_words(schema: Mapping[str, Any], records: Mapping[str, Any], named: Named | None = None) -> str:
    """A type and its range: `integer >= 1`, `a | b`, `list of string`.

    Args:
        records: what a schema may refer to, by name.
        named: what to write for a record, of its name and its schema; none: its keys with their types.
    """

    def words(part: Mapping[str, Any]) -> str:
        return values_in_words(part, records, named)

    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        told = named(name, records[name]) if named is not None else None
        if told is not None:
            return told
        if "properties" not in records[name]:
            return words(records[name])
        return "{" + ", ".join(f"{key}: {words(value)}" for key, value in records[name]["properties"].items()) + "}"
    if "anyOf" in schema:
        return " or ".join(words(option) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " | ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return "[" + ", ".join(words(item) for item in schema["prefixItems"]) + "]"
        return f"list of {words(schema['items'])}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"mapping of {words(schema['additionalProperties'])}"
    if "type" not in schema:
        return "anything"
    bounds = [f"{sign} {schema[key]:g}" for key, sign in _SIGNS.items() if key in schema]
    return " ".join([_KINDS.get(schema["type"], schema["type"]), ", ".join(bounds)]).strip()


def default_in_words(model: type[Record], key: str) -> str:
    """What a key holds where it is not written; `(required)` where it must be."""
    field = model.model_fields[key]
    if field.is_required():
        return "(required)"
    default = field.get_default(call_default_factory=True)
    return "none" if default is None else "[]" if default == () else str(default)
