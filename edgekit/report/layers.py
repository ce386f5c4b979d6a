"""What `edgekit debug parity` found, as one page with a plot for each comparison: no network, no script."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from edgekit.report.values import UNKNOWN
from edgekit.schema.debug import Comparison, DebugReport, LayerRow

WIDTH, HEIGHT = 1120, 410
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 14, 142  # the bottom holds the names of the layers
_FLOOR_DB, _CEILING_DB = 0.0, 100.0
_TICK_DB = 10
_CHARACTERS = 22  # of a layer's name below the plot


@dataclass(frozen=True)
class Point:
    """One layer's value: where it lies, and what it says when pointed at."""

    x: float
    y: float
    text: str
    state: str = "ok"


@dataclass(frozen=True)
class Plot:
    """Signal-to-noise ratio by layer, in pixels.

    Attributes:
        accumulated, explained: lines, broken where there is no value.
        own: points.
        names: x, text and state of the layer below the axis.
        ticks: y and dB.
    """

    accumulated: tuple[str, ...]
    explained: tuple[str, ...]
    own: tuple[Point, ...]
    names: tuple[Point, ...]
    ticks: tuple[tuple[float, int], ...]


def render_layers(report: DebugReport) -> str:
    """The page, UTF-8 text. Everything that comes from the report is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    for function in (decibels, codes, plain):
        environment.filters[function.__name__] = function
    text = files("edgekit.report").joinpath("layers.html.j2").read_text(encoding="utf-8")
    pages = [(comparison, plot(comparison)) for comparison in report.comparisons]
    box = {"width": WIDTH, "height": HEIGHT, "left": _LEFT, "right": WIDTH - _RIGHT, "bottom": HEIGHT - _BOTTOM}
    return environment.from_string(text).render(report=report, pages=pages, box=box)


def plot(comparison: Comparison) -> Plot:
    """Where everything lies. Ratios outside 0 to 100 dB are drawn on the edge, and told as they are."""
    rows = comparison.layers
    values = [v for row in rows for v in (row.snr_db, row.own_snr_db, row.explained_snr_db) if v is not None]
    low = min([_FLOOR_DB, *(max(v, -20.0) for v in values)])
    high = max([_FLOOR_DB + _TICK_DB, *(min(v, _CEILING_DB) for v in values)])
    low, high = _TICK_DB * (low // _TICK_DB), -_TICK_DB * (-high // _TICK_DB)
    step = (WIDTH - _LEFT - _RIGHT) / max(len(rows), 1)

    def x(index: int) -> float:
        return round(_LEFT + step * (index + 0.5), 1)

    def y(value: float) -> float:
        inside = min(max(value, low), high)
        return round(_TOP + (high - inside) / (high - low) * (HEIGHT - _TOP - _BOTTOM), 1)

    return Plot(
        accumulated=_lines([(x(i), None if r.snr_db is None else y(r.snr_db)) for i, r in enumerate(rows)]),
        explained=_lines(
            [(x(i), None if r.explained_snr_db is None else y(r.explained_snr_db)) for i, r in enumerate(rows)]
        ),
        own=tuple(
            Point(x(i), y(row.own_snr_db), _told(row), row.state)
            for i, row in enumerate(rows)
            if row.own_snr_db is not None
        ),
        names=tuple(Point(x(i), HEIGHT - _BOTTOM + 12, _short(row.layer), row.state) for i, row in enumerate(rows)),
        ticks=tuple((y(db), db) for db in range(int(low), int(high) + 1, _TICK_DB)),
    )


def _lines(points: list[tuple[float, float | None]]) -> tuple[str, ...]:
    """Polylines, each `x,y x,y ...`; one ends where a value is missing."""
    parts: list[list[str]] = [[]]
    for x, y in points:
        if y is None:
            parts.append([])
        else:
            parts[-1].append(f"{x},{y}")
    return tuple(" ".join(part) for part in parts if part)


def _told(row: LayerRow) -> str:
    told = f"{row.layer}: own {decibels(row.own_snr_db)} dB, explained {decibels(row.explained_snr_db)} dB"
    return f"{told}, accumulated {decibels(row.snr_db)} dB" + (f". {row.reason}" if row.reason else "")


def _short(name: str) -> str:
    return name if len(name) <= _CHARACTERS else f"…{name[1 - _CHARACTERS :]}"


def decibels(value: float | None) -> str:
    """One decimal."""
    return UNKNOWN if value is None else f"{value:.1f}"


def codes(value: float | None) -> str:
    """An error in steps of a grid, one decimal."""
    return UNKNOWN if value is None else f"{value:.1f}"


def plain(value: float | None) -> str:
    """Three digits."""
    return UNKNOWN if value is None else f"{value:.3g}"


def ratio(row: LayerRow, value: float | None) -> str:
    """A ratio in dB; `exact` where the layer has no error at all."""
    return "exact" if value is None and row.exact else decibels(value)
