"""JSON Schema of everything that a user writes or reads, by name: for editors, CI and other programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from edgekit.errors import SchemaError
from edgekit.schema.base import Record
from edgekit.schema.calibration import CalibrationSet
from edgekit.schema.device import Device, Devices
from edgekit.schema.find import suggest
from edgekit.schema.manifest import Manifest
from edgekit.schema.pass_options import PASS_OPTIONS
from edgekit.schema.recipe import Recipe
from edgekit.schema.target import Target

SCHEMAS: Mapping[str, type[Record]] = {
    "recipe": Recipe,
    "target": Target,
    "device": Device,
    "devices": Devices,
    "calibration-set": CalibrationSet,
    "manifest": Manifest,
    **PASS_OPTIONS,
}


def json_schema(name: str, table: Mapping[str, type[Record]] = SCHEMAS) -> dict[str, Any]:
    """JSON Schema, draft 2020-12, of the record called `name`; a pass's name gives its options.

    Raises:
        SchemaError: no such schema; names the nearest.
    """
    if name not in table:
        raise SchemaError(f"no schema is called {name!r}", "edgekit schema", suggest(name, list(table), "schemas"))
    schema = _recipe_schema() if table[name] is Recipe else table[name].model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _recipe_schema() -> dict[str, Any]:
    """The recipe as it is written: `extends`, and steps as `{pass: {option: value}}` or a bare pass name."""
    models = [(model, "validation") for model in (Recipe, *PASS_OPTIONS.values())]
    _, combined = models_json_schema(models)  # type: ignore[arg-type]  # mode is a Literal that a list widens to str
    definitions: dict[str, Any] = combined["$defs"]
    recipe: dict[str, Any] = definitions.pop("Recipe")
    spelled = {
        name: {"anyOf": [{"$ref": f"#/$defs/{model.__name__}"}, {"type": "null"}]}
        for name, model in PASS_OPTIONS.items()
    }
    definitions["Step"] = {
        "description": "One pass with its options.",
        "anyOf": [
            {"enum": list(PASS_OPTIONS)},
            {
                "type": "object",
                "properties": spelled,
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": 1,
            },
            definitions["Step"],
        ],
    }
    recipe["properties"]["extends"] = {
        "type": "string",
        "description": "a recipe file or name that this one is laid over",
    }
    # a file that extends another need not repeat what that one says
    recipe["anyOf"] = [{"required": recipe.pop("required")}, {"required": ["extends"]}]
    return {**recipe, "$defs": definitions}
