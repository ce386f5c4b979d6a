"""Zeros among the weights: what training made, what each file holds, and whether a runtime makes time of them."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from rich.console import Group, RenderableType
from rich.text import Text

from edgekit.report import values
from edgekit.report.tables import add_row, plain_table
from edgekit.schema.manifest import Manifest
from edgekit.schema.sparsity import SparsityRow

_RANKED = {"layer": "in each layer", "global": "over all layers"}
_STYLES = {"no": "yellow", "where it has a kernel": "green", "not known": "yellow"}


def sparsity_section(manifest: Manifest) -> str:
    """A section of report.html, escaped; empty where no step made weights zero."""
    steps = _steps(manifest)
    if not steps:
        return ""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"share": values.share, "kilobytes": values.kilobytes}
    text = files("edgekit.report").joinpath("sparsity.html.j2").read_text(encoding="utf-8")
    told = [(name, row, *made(row)) for name, row in steps]
    return environment.from_string(text).render(m=manifest, steps=told)


def sparsity_block(manifest: Manifest) -> RenderableType | None:
    """The same for the terminal, without single layers."""
    steps = _steps(manifest)
    if not steps:
        return None
    lines: list[RenderableType] = []
    for name, row in steps:
        what, when = made(row)
        lines += [Text.assemble((f"{name}: ", "dim"), what), Text(when, style="dim")]
    table = plain_table(
        ("file", "l"), ("zeros", "r"), ("KB", "r"), ("zipped", "r"), ("bitmask", "r"), ("faster for it?", "l")
    )
    for found in manifest.sparse:
        faster = Text(found.faster, style=_STYLES[found.faster]).append(f": {found.reason}", style="default")
        sizes = (found.size_bytes, found.deflated_bytes, found.bitmask_bytes)
        add_row(table, found.artifact, values.share(found.zeros_ratio), *map(values.kilobytes, sizes), faster)
    return Group(*lines, table) if manifest.sparse else Group(*lines)


def made(row: SparsityRow) -> tuple[str, str]:
    """In two sentences: how many zeros there are, and when they came."""
    dense, zipped, bitmask = map(values.kilobytes, (row.size_bytes, row.deflated_bytes, row.bitmask_bytes))
    what = (
        f"{values.share(row.prunable_ratio)} of {row.prunable_weights:,} weights of {len(row.layers)} layers are zero, "
        f"{values.share(row.total_ratio)} of all {row.all_weights:,}; weights {dense} KB, zipped {zipped} KB, "
        f"as bitmask and values {bitmask} KB"
    )
    ranked = "layer after layer" if row.pattern == "2:4" else f"ranked {_RANKED[row.scope]}"
    pattern = row.pattern if row.method == "one_shot" and row.pattern == "2:4" else f"{row.pattern}, {ranked}"
    if row.method == "hold":
        return what, f"held as they were, through {row.steps:,} steps"
    if row.method == "one_shot":
        return what, f"{pattern}; all at once, then {row.recovery_steps:,} steps under the mask"
    last = row.begin + row.updates * row.every
    return what, (
        f"{pattern}; along a cubic ramp from step {row.begin:,} to {last:,} in {row.updates} updates, one in "
        f"{row.every} steps, then {row.recovery_steps:,} of {row.steps:,} steps to recover"
    )


def _steps(manifest: Manifest) -> list[tuple[str, SparsityRow]]:
    return [
        (row.name if row.model == "model" else f"{row.model}: {row.name}", row.sparsity)
        for row in manifest.steps
        if row.sparsity is not None
    ]
