"""What `build` and `plan` are both given: a recipe, what it is for, and what is laid over it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from edgekit.cli import complete

_ALLOW_FLOAT = "model.allow_float=true"
_OPTIONS = (
    click.argument("recipe", required=False, metavar="[MODEL|RECIPE]", shell_complete=complete.recipes),
    click.option(
        "--target",
        required=True,
        metavar="NAME",
        shell_complete=complete.targets,
        help="Class of hardware to build for; see `edgekit targets list`.",
    ),
    click.option(
        "--calib",
        metavar="NAME",
        shell_complete=complete.calibration_sets,
        help="Calibration set of the data, by name or file, in place of the recipe's.",
    ),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Lay a value over the recipe: seed=1, steps.2.quantize.observer=mse.",
    ),
    click.option(
        "--allow-float",
        is_flag=True,
        help="Keep operators of an .onnx file that become no layers as they are, in float.",
    ),
    click.option("--allow-override", is_flag=True, help="Let the recipe, or a file of yours, loosen a shipped gate."),
)


def recipe_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command with these options. It gets `recipe`, `target`, `calib`, `settings` and `allow_override`."""

    @wraps(command)
    def with_settings(*args: Any, settings: tuple[str, ...], allow_float: bool, **others: Any) -> None:
        command(*args, settings=(*settings, _ALLOW_FLOAT) if allow_float else settings, **others)

    for option in reversed(_OPTIONS):
        with_settings = option(with_settings)
    return with_settings
