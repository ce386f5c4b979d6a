"""`edgekit schema`: JSON Schema of what users and other programs read and write."""

from __future__ import annotations

import click

from edgekit.cli import complete
from edgekit.cli.output import console, json_option, print_json, table
from edgekit.schema.json_schema import SCHEMAS, json_schema


@click.command()
@click.argument("name", required=False, shell_complete=complete.schemas)
@json_option
def schema(name: str | None, as_json: bool) -> None:
    """Print the JSON Schema of NAME; without one, list the names."""
    if name is not None:
        print_json(json_schema(name))
        return
    rows = [(known, (model.__doc__ or "").strip().splitlines()[0]) for known, model in SCHEMAS.items()]
    if as_json:
        print_json({"schemas": [dict(zip(("name", "description"), row, strict=True)) for row in rows]})
        return
    console().print(table("Schemas: edgekit schema NAME", ("name", "what it describes"), rows))
