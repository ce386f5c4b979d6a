"""What pruning took out: how many groups of channels, which blocks, and what had to stay."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from rich.console import Group, RenderableType
from rich.text import Text

from edgekit.report import values
from edgekit.schema.manifest import Manifest
from edgekit.schema.pruned import PruneRow


def pruning_section(manifest: Manifest) -> str:
    """A section of report.html, escaped; empty where no step pruned."""
    rows = [(row.name, row.prune, said(row.prune)) for row in manifest.steps if row.prune is not None]
    if not rows:
        return ""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["share"] = values.share
    text = files("edgekit.report").joinpath("pruning.html.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(steps=rows)


def pruning_block(manifest: Manifest) -> RenderableType | None:
    """The same for the terminal, a line a step."""
    found = [row.prune for row in manifest.steps if row.prune is not None]
    return Group(*(Text(said(row)) for row in found)) if found else None


def said(row: PruneRow) -> str:
    """In one sentence."""
    narrower = [group for group in row.groups if group.after < group.before]
    aim = "channel_ratio" if row.budget_name is None else f"{row.budget_name} {row.budget:g}"
    parts = [f"{len(narrower)} of {len(row.groups)} groups of channels are narrower"]
    if row.blocks:
        parts.append(f"{len(row.blocks)} {'block' if len(row.blocks) == 1 else 'blocks'} removed")
    if row.whole:
        parts.append(f"{len(row.whole)} could lose nothing")
    return f"by {row.method} to {aim}: {', '.join(parts)}"
