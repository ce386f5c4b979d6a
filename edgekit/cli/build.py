"""`edgekit build`: from a recipe to a measured, gated bundle."""

from __future__ import annotations

import os
from pathlib import Path

import click
from rich.text import Text

from edgekit import api
from edgekit.cli import complete
from edgekit.cli.output import console, json_option, only_json, print_json
from edgekit.cli.progress import draw_nothing, draw_progress
from edgekit.cli.recipe_options import recipe_options
from edgekit.pipeline.request import choose_recipe


@click.command()
@recipe_options
@click.option(
    "--device",
    metavar="NAME",
    shell_complete=complete.devices,
    help="Board of devices.yaml to measure on. None is contacted without it.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("dist"),
    show_default=True,
    help="Where the bundle's folder goes.",
)
@click.option("--no-cache", is_flag=True, help="Run every step again, and keep nothing of it.")
@click.option(
    "--no-measure", is_flag=True, help="Measure nothing, and leave out of the bundle what differs between builds."
)
@click.option("--remeasure", is_flag=True, help="Measure again what was measured within the last 24 hours.")
@click.option(
    "--device-samples",
    type=click.IntRange(1),
    metavar="N",
    help="Test the first N samples on the board instead of all; gates on accuracy there are then not evaluated.",
)
@click.option("--require-measured", is_flag=True, help="Exit with 4 when a required gate was not evaluated.")
@json_option
def build(
    recipe: str | None,
    target: str,
    device: str | None,
    out: Path,
    calib: str | None,
    settings: tuple[str, ...],
    no_cache: bool,
    no_measure: bool,
    remeasure: bool,
    device_samples: int | None,
    require_measured: bool,
    allow_override: bool,
    as_json: bool,
) -> None:
    """Turn a recipe into a bundle for a class of hardware.

    RECIPE is a name or a file; MODEL is an .onnx file, or package.module:function whose inputs --set tells, with data
    that --calib names. Without either: ./edgekit.yaml if there is one, else the quickstart. What is finished is kept
    in .edgekit (or EDGEKIT_HOME): the same command goes on where an interrupted one stopped.

    Exit codes: 0 done; 1 an error; 2 usage; 3 a gate failed; 4 a device, or a required gate, was not measured.
    """
    chosen = choose_recipe(recipe)
    errors = console(stderr=True)
    if not as_json and recipe is None:
        errors.print(Text(f"no recipe named: building {chosen}"))
    # Read when torch is imported. Threads that spin while they wait make small networks many times slower on a machine
    # that does anything else: beside 8 jobs a training step of the quickstart took 98 ms of processor time, not 21.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with only_json(as_json):
        result = api.build(
            chosen,
            target,
            draw_nothing() if as_json else draw_progress(errors),
            device=device,
            out=out,
            calib=calib,
            settings=settings,
            cache=not no_cache,
            measure=not no_measure,
            device_samples=device_samples,
            remeasure=remeasure,
            require_measured=require_measured,
            allow_override=allow_override,
        )
    if as_json:
        document = {"bundle": str(result.bundle), "exit_code": result.exit_code}
        print_json({**document, "manifest": result.manifest.model_dump(mode="json")})
    else:
        from edgekit.report.terminal import print_summary

        print_summary(console(), result.manifest, result.bundle, result.steps)
    click.get_current_context().exit(result.exit_code)
