"""The reference of everything that a user writes, as Markdown, made from the schemas: docs/reference.md.

`make docs` writes the page; a test fails where it is not what comes out of here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from edgekit.schema.base import Record
from edgekit.schema.calibration import CalibrationSet
from edgekit.schema.device import Devices
from edgekit.schema.in_words import values_in_words
from edgekit.schema.pass_options import PASS_OPTIONS, PASS_SOURCES
from edgekit.schema.postprocess import Postprocess
from edgekit.schema.recipe import Recipe
from edgekit.schema.target import Target

_PAGES: Mapping[str, tuple[type[Record], str, str]] = {
    "Recipe": (Recipe, "", "`edgekit.yaml`, or a file of `recipes/`. `extends: NAME` lays it over another recipe."),
    "Calibration set": (CalibrationSet, "calib", "A file of `calib/`."),
    "Target": (Target, "target", "A file of `targets/`."),
    "Devices": (Devices, "devices", "`devices.yaml`."),
}
# class of a record -> what is written in place of a section of its own
_SPELLED = {
    "Step": "passes, each a name or `{name: {option: value}}`: see [passes](#passes)",
    "RecoverOptions": "options of [distill](#distill)",
    "Postprocess": "kinds, each a name or `{kind: {option: value}}`: see [postprocessing](#postprocessing)",
}
# class of a record that stands at many keys -> title of its section
_TITLES = {"Bound": "a bound", "Split": "a split", "Preprocess": "preprocess", "Fact": "a fact"}
_HEAD = """# Reference

Every key of every file that you write, and every option of every pass. This page is made from the schemas themselves
(`make docs`); [recipes.md](recipes.md) says how they go together. Editors take the same from `edgekit schema NAME`.
"""


def render_reference() -> str:
    """The whole page."""
    sections: dict[str, str] = {}  # class of a record -> title of the section that has it
    parts = [_HEAD]
    for title, (model, prefix, line) in _PAGES.items():
        parts.append(f"## {title}\n\n{line}\n")
        parts += _record(model.model_json_schema(), prefix, sections)
    parts.append("## Postprocessing\n\nA line of `postprocess:`.\n")
    for kind, field in Postprocess.model_fields.items():
        (record,) = (own for own in get_args(field.annotation) if own is not type(None))
        parts.append(f"### {kind}\n\n{_first_line(record.model_json_schema())}\n")
        parts += _record(record.model_json_schema(), kind, sections)
    parts.append("## Passes\n\nA line of `steps:`. `edgekit passes show NAME` prints the same.\n")
    for name, options in PASS_OPTIONS.items():
        schema = options.model_json_schema()
        parts.append(f"### {name}\n\n{_first_line(schema)} {_sentence(PASS_SOURCES[name])}\n")
        parts += _record(schema, name, sections)
    return "\n".join(parts)


def _record(schema: Mapping[str, Any], prefix: str, sections: dict[str, str]) -> Iterator[str]:
    """The table of a record, and a section with a table for each record below it that has none yet."""
    records = schema.get("$defs", {})
    waiting: list[tuple[str, Mapping[str, Any]]] = [(prefix, schema)]
    first = True
    while waiting:
        path, current = waiting.pop(0)
        if not first:
            told = _first_line(current)
            yield f"### {path}\n" + (f"\n{told}\n" if told else "")
        first = False
        yield "\n".join(_table(current, path, records, sections, waiting)) + "\n"


def _table(
    schema: Mapping[str, Any],
    path: str,
    records: Mapping[str, Any],
    sections: dict[str, str],
    waiting: list[tuple[str, Mapping[str, Any]]],
) -> Iterator[str]:
    yield "| key | values | default | |"
    yield "|---|---|---|---|"
    required = schema.get("required", ())
    for key, value in schema.get("properties", {}).items():
        below = f"{path}.{key}" if path else key

        def named(name: str, record: Mapping[str, Any], below: str = below) -> str | None:
            if name in _SPELLED:
                return _SPELLED[name]
            if "properties" not in record:
                return None
            if name not in sections:
                sections[name] = _TITLES.get(name, below)
                waiting.append((sections[name], record))
            return f"[{sections[name]}](#{_anchor(sections[name])})"

        words = values_in_words(value, records, named)
        default = "required" if key in required else _default(value)
        yield f"| `{key}` | {_cell(words)} | {_cell(default)} | {_cell(value.get('description', ''))} |"


def _default(schema: Mapping[str, Any]) -> str:
    if "default" not in schema or isinstance(schema["default"], dict):
        return ""
    default = schema["default"]
    if default in (None, "", []):
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _first_line(schema: Mapping[str, Any]) -> str:
    return _sentence((schema.get("description") or "").partition("\n")[0])


def _sentence(text: str) -> str:
    return text if not text or text.endswith(".") else f"{text}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9_ -]", "", title.lower()).replace(" ", "-")


if __name__ == "__main__":
    sys.stdout.write(render_reference())
