"""`edgekit devices`: the boards that --device may name."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli.output import console, json_option, print_json, print_overrides, table
from edgekit.schema.load import load_devices, load_target


@click.group()
def devices() -> None:
    """List the boards of devices.yaml."""


@devices.command("list")
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path),
    help="Another devices.yaml; else ./devices.yaml, else the shipped.",
)
@json_option
def list_devices(file: Path | None, as_json: bool) -> None:
    """Every device, its target, and the file that says so. Contacts none of them."""
    loaded = load_devices(file)
    rows = [
        (d.name, load_target(d.target, allow_override=True).target.name, d.transport, d.stand_in_for)
        for d in loaded.devices.devices
    ]
    if as_json:
        keys = ("name", "target", "transport", "stand_in_for")
        print_json(
            {
                "path": str(loaded.path),
                "override": loaded.override.model_dump() if loaded.override else None,
                "devices": [dict(zip(keys, row, strict=True)) for row in rows],
            }
        )
        return
    print_overrides([loaded.override])
    click.echo(f"from {loaded.path}")
    console().print(table("Devices", ("name", "target", "transport", "stands in for"), rows))
