"""`edgekit targets`: the classes of hardware that may be built for."""

from __future__ import annotations

import click

from edgekit.cli import complete
from edgekit.cli.output import console, json_option, print_json, print_overrides, table
from edgekit.errors import SchemaError
from edgekit.schema.find import names
from edgekit.schema.gates import Gates
from edgekit.schema.load import LoadedTarget, load_target
from edgekit.schema.target import Fact


@click.group()
def targets() -> None:
    """List the classes of hardware, or show one."""


@targets.command("list")
@json_option
def list_targets(as_json: bool) -> None:
    """Every target: shipped, or in ./targets."""
    loaded: list[LoadedTarget] = []
    refused: list[tuple[str, SchemaError]] = []
    for name in names("target"):
        try:
            loaded.append(load_target(name))
        except SchemaError as error:
            refused.append((name, error))
    if as_json:
        rows = [
            {
                "name": t.target.name,
                "aliases": list(t.target.aliases),
                "description": t.target.description,
                "formats": [f.format for f in t.target.formats],
                "path": str(t.path),
                "digest": t.digest,
                "override": t.override.model_dump() if t.override else None,
            }
            for t in loaded
        ]
        problems = [{"name": n, "what": e.what, "where": e.where, "fix": e.fix} for n, e in refused]
        print_json({"targets": rows, "refused": problems})
        return
    print_overrides(t.override for t in loaded)
    cells = [
        (
            t.target.name,
            ", ".join(t.target.aliases),
            ", ".join(f.format for f in t.target.formats),
            t.target.description,
        )
        for t in loaded
    ]
    console().print(table("Targets", ("name", "aliases", "formats", "description"), cells))
    for name, why in refused:
        console(stderr=True).print(f"{name} cannot be used: {why}", markup=False)


@targets.command("show")
@click.argument("name", shell_complete=complete.targets)
@json_option
def show_target(name: str, as_json: bool) -> None:
    """One target: formats, facts with their sources, default gates. NAME is a name, an alias or a file."""
    loaded = load_target(name, allow_override=True)  # a build judges; this only shows
    target = loaded.target
    if as_json:
        print_json(
            {
                **target.model_dump(mode="json", exclude_none=True),
                "path": str(loaded.path),
                "digest": loaded.digest,
                "override": loaded.override.model_dump() if loaded.override else None,
            }
        )
        return
    print_overrides([loaded.override])
    out = console()
    aliases = f" (also {', '.join(target.aliases)})" if target.aliases else ""
    out.print(f"{target.name}{aliases}: {target.description}", markup=False, style="bold")
    int8_dot = "with" if target.int8_dot else "without"
    out.print(
        f"{target.architecture}, {int8_dot} 8-bit dot products; precisions {', '.join(target.precisions)}; "
        f"measured with {target.threads} thread{'s' if target.threads > 1 else ''}",
        markup=False,
    )
    rows = [(f.format, f.convention, f.runtime, f.note) for f in target.formats]
    out.print(table("Formats, in order of preference", ("format", "convention", "runtime", "note"), rows))
    facts: list[tuple[str, Fact | None]] = [
        ("cores", target.cores),
        ("channel multiple", target.channel_multiple),
        ("memory", target.memory),
        ("bandwidth", target.bandwidth),
        *((f"peak {precision}", fact) for precision, fact in target.peak.items()),
        ("power", target.power),
    ]
    known = [(label, f"{fact.value:g} {fact.unit}", fact.source) for label, fact in facts if fact is not None]
    out.print()
    out.print(table("Facts", ("fact", "value", "source"), known))
    out.print()
    out.print(table("Default gates", ("gate", "bound", "required"), _gate_rows(target.gates)))
    out.print()
    for note in target.notes:
        out.print(f"- {note}", markup=False)


def _gate_rows(gates: Gates) -> list[tuple[str, str, str]]:
    rows = []
    for name in Gates.model_fields:
        bound = getattr(gates, name)
        if bound is not None:
            side = f"at most {bound.at_most:g}" if bound.at_most is not None else f"at least {bound.at_least:g}"
            rows.append((name, side, "yes" if bound.required else "no"))
    return rows
