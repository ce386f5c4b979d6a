"""`edgekit plan`: what a build would do, and what of it is stored already. Runs nothing and imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

import click
from rich.console import RenderableType
from rich.text import Text

from edgekit import api
from edgekit.cli import complete
from edgekit.cli.output import console, json_option, print_json, print_overrides, table
from edgekit.cli.recipe_options import recipe_options
from edgekit.pipeline.plan import Plan, PlannedArtifact, PlannedStep
from edgekit.pipeline.request import choose_recipe


@click.command()
@recipe_options
@click.option(
    "--device",
    metavar="NAME",
    shell_complete=complete.devices,
    help="Board to measure on: float versions are exported too, to compare with.",
)
@click.option(
    "--explain", is_flag=True, help="Say of each step that is not stored what differs from the nearest that is."
)
@json_option
def plan(
    recipe: str | None,
    target: str,
    device: str | None,
    calib: str | None,
    settings: tuple[str, ...],
    allow_override: bool,
    explain: bool,
    as_json: bool,
) -> None:
    """Say what `build` would do with the same arguments, step by step, and what is stored already."""
    chosen = choose_recipe(recipe)
    made = api.plan(
        chosen,
        target,
        explain=explain,
        device=device,
        calib=calib,
        settings=settings,
        allow_override=allow_override,
    )
    if as_json:
        print_json(_document(made))
        return
    print_overrides(made.overrides)
    title = f"{made.recipe.recipe.name} -> {made.target.target.name}, data {made.recipe.recipe.data}"
    console().print(_steps(title, list(made.every_step)))
    console().print()
    console().print(_artifacts(made.artifacts))
    if explain:
        console().print()
        for name, why in _reasons(made):
            console().print(Text(f"{name} is not stored:"))
            for line in dict.fromkeys(why):
                console().print(Text(f"  {line}"), soft_wrap=True)


def _steps(title: str, steps: list[PlannedStep]) -> RenderableType:
    rows = ((_name(step), _options(step), step.key.key[:12], _state(step.cached)) for step in steps)
    return table(title, ("step", "options set", "key", "state"), rows)


def _artifacts(artifacts: tuple[PlannedArtifact, ...]) -> RenderableType:
    rows = (
        (
            one.variant.format,
            one.variant.convention,
            one.variant.precision,
            one.export.key[:12],
            _state(one.cached),
            one.variant.not_int8 if one.variant.ships else "not shipped: to compare speed with",
        )
        for one in artifacts
    )
    return table("Artifacts", ("format", "convention", "type", "key", "state", ""), rows)


def _name(step: PlannedStep) -> str:
    return step.name if step.who == "model" else f"{step.who}: {step.name}"


def _options(step: PlannedStep) -> str:
    if step.options is None:
        return ""
    return ", ".join(
        f"{key}={value}" for key, value in step.options.model_dump(mode="json", exclude_defaults=True).items()
    )


def _state(cached: bool) -> str:
    return "stored" if cached else "to do"


def _reasons(made: Plan) -> list[tuple[str, tuple[str, ...]]]:
    makers = {step.key.key: _name(step) for step in made.every_step if not step.cached}
    makers |= {one.export.key: "its export" for one in made.artifacts if not one.cached}
    steps = [(_name(step), step.why) for step in made.every_step if not step.cached]
    artifacts = [(one.variant.title, one.why) for one in made.artifacts if not one.cached]
    return [(name, tuple(_traced(line, makers) for line in why)) for name, why in steps + artifacts]


def _traced(line: str, makers: Mapping[str, str]) -> str:
    """A line that says that another step's key is new, in words; a key is shown cut, but longer than this."""
    name = line.partition(":")[0]
    for key, maker in makers.items():
        if name.partition(".")[0] in {"input", "teacher"} and key[:40] in line.partition(" -> ")[2]:
            return f"{name}: {maker} is to do"
    return line


def _document(made: Plan) -> dict[str, object]:
    return {
        "recipe": {"name": made.recipe.recipe.name, "digest": made.recipe.digest, "path": str(made.recipe.path)},
        "target": {"name": made.target.target.name, "digest": made.target.digest},
        "data": made.recipe.recipe.data,
        "overrides": [override.model_dump() for override in made.overrides],
        "gates": made.gates.model_dump(exclude_none=True),
        "steps": [
            {
                "name": step.name,
                "model": step.who,
                "options": step.options.model_dump(mode="json") if step.options else {},
                "key": step.key.key,
                "parts": dict(step.key.parts),
                "cached": step.cached,
                "why": list(step.why),
            }
            for step in made.every_step
        ],
        "artifacts": [
            {
                "format": one.variant.format,
                "convention": one.variant.convention,
                "precision": one.variant.precision,
                "ships": one.variant.ships,
                "key": one.export.key,
                "cached": one.cached,
                "why": list(one.why),
            }
            for one in made.artifacts
        ],
    }
