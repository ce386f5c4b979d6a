"""`edgekit recipes`: the recipes that can be built, or extended, by name."""

from __future__ import annotations

import click

from edgekit.cli import complete
from edgekit.cli.output import console, json_option, print_json, table
from edgekit.schema.gallery import Preset, list_presets, read_preset


@click.group()
def recipes() -> None:
    """List the recipes that can be built or extended by name, or show one."""


@recipes.command("list")
@json_option
def list_recipes(as_json: bool) -> None:
    """Every recipe: shipped, or in ./recipes."""
    presets, refused = list_presets()
    if as_json:
        problems = [{"name": name, "what": e.what, "where": e.where, "fix": e.fix} for name, e in refused]
        print_json({"recipes": [_document(preset) for preset in presets], "refused": problems})
        return
    rows = [
        (one.name, one.recipe.data, ", ".join(_steps(one)), ", ".join(one.wants), one.recipe.description)
        for one in presets
    ]
    console().print(table("Recipes", ("name", "data", "steps", "wants", "description"), rows))
    for name, error in refused:
        console(stderr=True).print(f"{name} cannot be used: {error}", markup=False)


@recipes.command("show")
@click.argument("name", shell_complete=complete.preset_names)
@json_option
def show_recipe(name: str, as_json: bool) -> None:
    """One recipe, as it is written, and how to build or extend it."""
    preset = read_preset(name)
    if as_json:
        print_json({**_document(preset), "recipe": preset.recipe.model_dump(mode="json"), "text": preset.text})
        return
    out = console()
    out.print(f"{preset.name}: {preset.recipe.description}", markup=False, style="bold", soft_wrap=True)
    out.print(f"file: {preset.path}", markup=False, soft_wrap=True)
    if preset.extends:
        out.print(f"extends: {', '.join(preset.extends)}", markup=False)
    if preset.wants:
        out.print(f"wants the environment variables: {', '.join(preset.wants)}", markup=False)
    out.print()
    out.print(preset.text.rstrip(), markup=False, soft_wrap=True)
    out.print()
    out.print(f"build it:  edgekit build {preset.name} --target NAME", style="dim")
    out.print(f"extend it: edgekit init --from {preset.name}", style="dim")


def _steps(preset: Preset) -> list[str]:
    return [step.name for step in preset.recipe.steps]


def _document(preset: Preset) -> dict[str, object]:
    return {
        "name": preset.name,
        "description": preset.recipe.description,
        "path": str(preset.path),
        "shipped": preset.shipped,
        "extends": list(preset.extends),
        "wants": list(preset.wants),
        "data": preset.recipe.data,
        "steps": _steps(preset),
    }
