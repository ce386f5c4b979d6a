"""`edgekit passes`: what a step of a recipe may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from edgekit.cli import complete
from edgekit.cli.output import console, json_option, print_json, table
from edgekit.schema.base import Options
from edgekit.schema.in_words import default_in_words, values_in_words
from edgekit.schema.json_schema import json_schema
from edgekit.schema.pass_options import PASS_OPTIONS, PASS_SOURCES, options_class
from edgekit.schema.recover import RecoverOptions


@click.group()
def passes() -> None:
    """List the passes, or show one with its options."""


@passes.command("list")
@json_option
def list_passes(as_json: bool) -> None:
    """Every pass, and where its method was published."""
    rows = [(name, _summary(model), PASS_SOURCES[name]) for name, model in PASS_OPTIONS.items()]
    if as_json:
        print_json({"passes": [dict(zip(("name", "description", "source"), row, strict=True)) for row in rows]})
        return
    console().print(table("Passes", ("name", "what it does", "source"), rows))


@passes.command("show")
@click.argument("name", shell_complete=complete.passes)
@json_option
def show_pass(name: str, as_json: bool) -> None:
    """One pass: its options with their defaults."""
    model = options_class(name, "edgekit passes show")
    if as_json:
        document = {"name": name, "description": _summary(model), "source": PASS_SOURCES[name]}
        print_json({**document, "options": json_schema(name)["properties"]})
        return
    out = console()
    out.print(f"{name}: {_summary(model)}", markup=False, style="bold")
    out.print(f"source: {PASS_SOURCES[name]}", markup=False)
    whole: dict[str, Any] = json_schema(name)
    records: dict[str, Any] = whole.get("$defs", {})
    rows = [
        (
            option,
            values_in_words(schema, records, _spelled),
            default_in_words(model, option),
            schema.get("description", ""),
        )
        for option, schema in whole["properties"].items()
    ]
    out.print(table("Options", ("option", "values", "default", "description"), rows))


def _spelled(name: str, _schema: Mapping[str, Any]) -> str | None:
    return "options of distill" if name == RecoverOptions.__name__ else None


def _summary(model: type[Options]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]
