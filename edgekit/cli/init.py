"""`edgekit init`: a first recipe for a model and data, that builds as it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from edgekit.cli import complete
from edgekit.cli.output import console, json_option, print_json
from edgekit.errors import SchemaError
from edgekit.init.start import Place, is_file, make_proposal, parameters, parse_shape, write_extension, write_proposal
from edgekit.schema.yaml_file import parse_yaml

if TYPE_CHECKING:
    from edgekit.init.propose import Proposal


@click.command()
@click.option("--from", "preset", metavar="NAME", shell_complete=complete.preset_names, help="Extend a ready recipe.")
@click.option("--model", metavar="MODULE:FUNCTION|FILE", help="What makes the network, or an .onnx or .pt2 file.")
@click.option("--argument", "arguments", multiple=True, metavar="NAME=VALUE", help="Of the function.")
@click.option("--checkpoint", metavar="FILE", help="Trained weights; without them the recipe trains.")
@click.option("--data", metavar="FILE|FOLDER|MODULE:FUNCTION", help="Samples with their labels.")
@click.option("--part", "parts", multiple=True, metavar="NAME=INPUTS,LABELS", help="Arrays of an .npz file.")
@click.option("--input", "shapes", multiple=True, metavar="1x3x32x32", help="What the network takes, if it is told.")
@click.option("--metric", metavar="NAME", help="How outputs are judged; else as labels and outputs suggest.")
@click.option("--loss", metavar="NAME", help="What training makes small; likewise.")
@click.option("--target", metavar="NAME", shell_complete=complete.targets, help="Class of hardware to plan for.")
@click.option("--name", metavar="NAME", help="Of the recipe; else the folder's.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("edgekit.yaml"),
    show_default=True,
    help="The recipe; its calibration set goes into calib/ beside it.",
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@json_option
def init(
    preset: str | None,
    model: str | None,
    arguments: tuple[str, ...],
    checkpoint: str | None,
    data: str | None,
    parts: tuple[str, ...],
    shapes: tuple[str, ...],
    metric: str | None,
    loss: str | None,
    target: str | None,
    name: str | None,
    out: Path,
    force: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Look at a model and at data, and write a commented recipe that builds.

    What is not given by an option is asked for, unless --yes or --json. The network is run once on a sample, in a
    process of its own: name only code that you would build.
    """
    quiet = yes or as_json
    place = Place(out, name, force)
    if preset is not None:
        _finish(write_extension(preset, place), place, target, (), as_json)
        return
    place.check()
    if quiet and (model is None or data is None):
        raise click.UsageError("--model and --data are needed, or --from NAME")
    if model is None:
        model = click.prompt("What makes the network (module:function, an .onnx or .pt2 file)")
    if data is None:
        data = click.prompt("Samples with their labels (.npz, .csv, a folder, or module:function)")
    given = dict(_assignment(text, "--argument") for text in arguments)
    if not quiet and not is_file(model):
        for missing in [one for one in parameters(model)[0] if one not in given]:
            given[missing] = parse_yaml(click.prompt(f"{missing}, which {model} needs"), missing)
    proposal = make_proposal(
        model,
        data,
        arguments=given,
        checkpoint=checkpoint,
        parts={part: _pair(arrays) for part, arrays in (_assignment(text, "--part") for text in parts)} or None,
        shapes=[parse_shape(text) for text in shapes],
        metric=metric,
        loss=loss,
    )
    if not quiet:
        _show(proposal)
        place = Place(out, name or click.prompt("Name of the recipe", default=place.own_name), force)
        target = target or click.prompt("Class of hardware (`edgekit targets list`)", default="cpu-x86-64")
        click.confirm(f"Write {out}?", default=True, abort=True)
    _finish(write_proposal(proposal, place), place, target, proposal.notes, as_json)


def _finish(files: tuple[Path, ...], place: Place, target: str | None, notes: tuple[str, ...], as_json: bool) -> None:
    from edgekit import api

    if target is not None:
        api.plan(place.out if place.out.parent != Path() else place.out.name, target)
    command = ["edgekit", "build"] + ([] if place.out == Path("edgekit.yaml") else [str(place.out)])
    command += ["--target", target or "NAME"]
    if as_json:
        print_json({"files": [str(path) for path in files], "notes": list(notes), "next": " ".join(command)})
        return
    for path in files:
        click.echo(f"wrote {path}")
    for note in notes:
        console().print(Text(f"note: {note}", style="yellow"), soft_wrap=True)
    click.echo(f"next: {' '.join(command)}")


def _show(proposal: Proposal) -> None:
    network = proposal.network
    taken = ", ".join(f"{spec.name} {spec.shape}" for spec in network.inputs)
    given = ", ".join(f"{name} {shape}" for name, shape in network.outputs.items())
    click.echo(f"network: {network.parameters:,} parameters; takes {taken}; gives {given}")
    for name, split in proposal.splits.items():
        click.echo(f"{name}: {', '.join(f'{key} {value}' for key, value in split.items())}")
    click.echo(f"metric: {proposal.metric}")


def _assignment(text: str, option: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise SchemaError(f"{text!r} is not NAME=VALUE", option, f"write {option} name=value")
    return key, parse_yaml(value, option) if option == "--argument" else value


def _pair(text: str) -> list[str]:
    names = text.split(",")
    if len(names) != 2 or not all(names):
        raise SchemaError(f"{text!r} is not INPUTS,LABELS", "--part", "write --part train=images,labels")
    return names
