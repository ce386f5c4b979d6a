"""The gallery: every recipe that can be built or extended by its name, without the data and variables that it wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import SchemaError
from edgekit.schema.find import FOLDERS, find, names, shipped_folder
from edgekit.schema.recipe import Recipe
from edgekit.schema.resolve import expand, read_with_presets, references
from edgekit.schema.validate import validate
from edgekit.schema.yaml_file import read_mapping


@dataclass(frozen=True)
class Preset:
    """A recipe of the gallery.

    Attributes:
        name: that `build` and `extends` find it by.
        shipped: False: it lies in ./recipes.
        recipe: what it says; references to variables stand in it as written.
        extends: names of the recipes it is laid over, the nearest first.
        wants: environment variables that must be set to build it: the recipe's, and its calibration set's.
        text: the file as written, comments and all.
    """

    name: str
    path: Path
    shipped: bool
    recipe: Recipe
    extends: tuple[str, ...]
    wants: tuple[str, ...]
    text: str


def read_preset(name: str, cwd: Path | None = None) -> Preset:
    """The recipe of that name or file, as far as it can be told without the environment.

    Raises:
        SchemaError: there is none, it does not pass its schema, or there is no such calibration set.
    """
    base = Path.cwd() if cwd is None else cwd
    found = find("recipe", name, base)
    content, files = read_with_presets(found, base)
    wanted = references(content)
    unset = {variable: f"${{{variable}}}" for variable in wanted}
    where = found.path.name
    recipe = validate(Recipe, expand(content, where, unset), where)
    of_data = () if ":" in recipe.data else references(read_mapping(find("calibration set", recipe.data, base).path))
    return Preset(
        name=found.path.stem,
        path=found.path,
        shipped=found.path.parent.samefile(shipped_folder() / FOLDERS["recipe"]),
        recipe=recipe,
        extends=tuple(file.path.stem for file in files[1:]),
        wants=tuple(dict.fromkeys((*wanted, *of_data))),
        text=found.path.read_text(encoding="utf-8"),
    )


def list_presets(cwd: Path | None = None) -> tuple[Sequence[Preset], Sequence[tuple[str, SchemaError]]]:
    """Every recipe of ./recipes and the shipped ones, sorted by name; and which cannot be read, with the reason."""
    presets, refused = [], []
    for name in names("recipe", cwd):
        try:
            presets.append(read_preset(name, cwd))
        except SchemaError as error:
            refused.append((name, error))
    return presets, refused
