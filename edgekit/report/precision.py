"""Precision of single layers: what stayed high and why, whether the guard's bound holds, and the front of a budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgekit.report import values
from edgekit.report.tables import add_row, plain_table
from edgekit.schema.manifest import Manifest
from edgekit.schema.precision import GuardRow, KeptHigh, MixedRow

WIDTH, HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 14, 40
_TICKS = 5
_CEILING_DB = 120.0  # of a network without any error
_QUANTITIES = {
    "size_bytes": "weights, KB",
    "bit_operations_ratio": "bit operations, share of those of int8 by int8",
    "latency_ms": "p50, ms, as single layers tell it",
}


@dataclass(frozen=True)
class Plot:
    """Signal-to-noise ratio against cost, in pixels.

    Attributes:
        line: the front, as a polyline.
        points: x, y and what a point says when pointed at.
        chosen: x and y.
        costs, decibels: ticks, position and label.
    """

    line: str
    points: tuple[tuple[float, float, str], ...]
    chosen: tuple[float, float]
    costs: tuple[tuple[float, str], ...]
    decibels: tuple[tuple[float, str], ...]


def precision_section(manifest: Manifest) -> str:
    """A section of report.html, escaped; empty where every layer is as it was asked for and nobody judged it."""
    guards, mixed = _found(manifest)
    if not (guards or mixed or manifest.kept_high):
        return ""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "share": values.share,
        "metric": values.metric,
        "cost": cost_told,
        "snr": decibels,
        "coarse": too_coarse,
    }
    text = files("edgekit.report").joinpath("precision.html.j2").read_text(encoding="utf-8")
    box = {"width": WIDTH, "height": HEIGHT, "left": _LEFT, "right": WIDTH - _RIGHT, "bottom": HEIGHT - _BOTTOM}
    plots = [(row, plot(row), _QUANTITIES[row.budget_name]) for row in mixed]
    return environment.from_string(text).render(m=manifest, guards=guards, mixed=plots, box=box)


def precision_block(manifest: Manifest) -> RenderableType | None:
    """The same for the terminal, without the plot."""
    guards, mixed = _found(manifest)
    if not (guards or mixed or manifest.kept_high):
        return None
    lines: list[RenderableType] = [_guard(row, manifest) for row in guards]
    lines += [_mixed(row) for row in mixed]
    if manifest.kept_high:
        lines.append(_kept(manifest.kept_high))
    return Group(*lines)


def plot(row: MixedRow) -> Plot:
    """Where every point of the front lies, and the chosen one."""
    points = [(point.cost, decibels(point.noise)) for point in row.front]
    chosen = (row.cost, decibels(row.noise))
    costs, ratios = _span([x for x, _ in (*points, chosen)]), _span([y for _, y in (*points, chosen)])

    def place(cost: float, ratio: float) -> tuple[float, float]:
        x = _LEFT + (cost - costs[0]) / (costs[1] - costs[0]) * (WIDTH - _LEFT - _RIGHT)
        y = _TOP + (ratios[1] - ratio) / (ratios[1] - ratios[0]) * (HEIGHT - _TOP - _BOTTOM)
        return round(x, 1), round(y, 1)

    placed = [place(*point) for point in points]
    return Plot(
        line=" ".join(f"{x},{y}" for x, y in placed),
        points=tuple(
            (x, y, f"{cost_told(row.budget_name, point.cost)}, {ratio:.1f} dB: {_numbers(point.numbers)}")
            for (x, y), point, (_, ratio) in zip(placed, row.front, points, strict=True)
        ),
        chosen=place(*chosen),
        costs=tuple((place(cost, ratios[0])[0], _tick(row, cost)) for cost in _ticks(*costs)),
        decibels=tuple((place(costs[0], ratio)[1], f"{ratio:.3g}") for ratio in _ticks(*ratios)),
    )


def decibels(noise: float) -> float:
    """Signal-to-noise ratio of a noise."""
    return min(-10 * math.log10(noise), _CEILING_DB) if noise > 0 else _CEILING_DB


def too_coarse(row: GuardRow) -> str:
    """What to know where the selection split is too small for its bound; empty where it is not."""
    if row.max_drop >= 1 / row.samples:
        return ""
    return f"one of {row.samples} samples is {values.share(1 / row.samples)}, so none may be lost"


def cost_told(budget_name: str, cost: float) -> str:
    """With its unit."""
    if budget_name == "size_bytes":
        return f"{values.kilobytes(round(cost))} KB"
    return f"{values.milliseconds(cost)} ms" if budget_name == "latency_ms" else values.whole_share(cost)


def _found(manifest: Manifest) -> tuple[list[GuardRow], list[MixedRow]]:
    guards = [row.guard for row in manifest.steps if row.guard is not None]
    return guards, [row.mixed for row in manifest.steps if row.mixed is not None]


def _guard(row: GuardRow, manifest: Manifest) -> Text:
    metric, is_share = manifest.metrics.name, manifest.metrics.is_share
    before, asked, raised = (
        values.metric(value, is_share=is_share) for value in (row.float_metric, row.asked_metric, row.metric)
    )
    said = (
        f"{metric} on the selection split, {row.samples} samples: float {before}, as asked for "
        f"{asked}, as raised {raised}; it may drop by "
        f"{values.share(row.max_drop)}: "
    )
    outcome = ("holds", "green") if row.holds else ("DOES NOT HOLD, even with everything raised", "bold red")
    return Text(said).append(*outcome).append(f"; {coarse}" if (coarse := too_coarse(row)) else "")


def _mixed(row: MixedRow) -> Text:
    measured = "" if row.measured is None else f", measured {values.milliseconds(row.measured)} ms"
    return Text(
        f"budget {row.budget_name} {cost_told(row.budget_name, row.budget)}: {cost_told(row.budget_name, row.cost)}"
        f"{measured}; error of the outputs {decibels(row.noise):.1f} dB below the signal"
    )


def _kept(rows: Sequence[KeptHigh]) -> Table:
    table = plain_table(("layer", "l"), ("kept in", "l"), ("why", "l"))
    for row in rows:
        add_row(table, row.layer, row.number, row.reason)
    return table


def _numbers(numbers: dict[str, int]) -> str:
    return ", ".join(f"{count} in {number}" for number, count in sorted(numbers.items()))


def _span(found: Sequence[float]) -> tuple[float, float]:
    """Both ends, apart even where all are equal."""
    low, high = min(found), max(found)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float) -> list[float]:
    return [low + (high - low) * i / (_TICKS - 1) for i in range(_TICKS)]


def _tick(row: MixedRow, cost: float) -> str:
    return f"{cost / 1000:.4g}" if row.budget_name == "size_bytes" else f"{cost:.3g}"
