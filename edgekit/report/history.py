"""Tables of the history of measurements, of comparisons and bisections, for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgekit.report import values
from edgekit.report.tables import add_row, plain_table

if TYPE_CHECKING:  # a list of profiles should not wait for numpy
    from edgekit.schema.profile import Profile
    from edgekit.store.bisect import Bisection, Point
    from edgekit.store.builds import Release
    from edgekit.store.compared import Compared, LatencyPair, SizePair
    from edgekit.store.history import ProfileLine

_DIGITS = 8  # of a digest or a commit
_STATES = {"good": "green", "bad": "bold red", "unclear": "yellow", "not measured": "dim"}
_VERDICTS = {"faster": "green", "slower": "bold red", "no significant change": "default"}


def history_table(lines: Sequence[ProfileLine]) -> Table:
    """One line a profile, in the order given; a column that no line has anything in is left out."""
    columns = [column for column in _COLUMNS if column.always or any(map(column.known, lines))]
    table = plain_table(*((column.heading, column.side) for column in columns))
    for line in lines:
        add_row(table, *(column.cell(line) for column in columns))
    return table


def release_table(releases: Sequence[Release]) -> Table:
    """One line a release, in the order given."""
    table = plain_table(("release", "l"), ("recipe", "l"), ("target", "l"), ("build", "l"), ("marked (UTC)", "l"))
    for row in releases:
        add_row(table, row.name, row.recipe, row.target, row.build[:_DIGITS], _minute(row.marked_s))
    return table


def compared_tables(compared: Compared) -> RenderableType:
    """Latency and memory, then size and metrics, then what could not be compared."""
    blocks: list[RenderableType] = []
    if compared.latency:
        blocks += [Text("Latency of B against A", style="bold cyan"), Padding(_latency(compared.latency), (0, 0, 0, 1))]
    if compared.sizes:
        blocks += [Text("Size and metrics", style="bold cyan"), Padding(_sizes(compared.sizes), (0, 0, 0, 1))]
    for pair in compared.latency:
        head = f"{pair.artifact} on {pair.candidate.device}"
        blocks += [Text(f"{head}: differs in {told}", style="yellow") for told in pair.forbidding]
        blocks += [Text(f"{head}: also differs in {told}", style="dim") for told in pair.noted]
    blocks += [Text(told, style="yellow") for told in compared.unpaired]
    return Group(*blocks)


def bisection_table(found: Bisection) -> Table:
    """One line a build, from the good end to the bad one."""
    unit = "peak MB" if found.of == "peak_rss_bytes" else f"{found.of.removesuffix('_ms')} ms"
    table = plain_table(
        ("build", "l"),
        ("commit", "l"),
        ("made (UTC)", "l"),
        ("profile", "r"),
        (unit, "r"),
        ("change", "r"),
        ("95 % interval", "l"),
        ("", "l"),
    )
    for point in found.points:
        value = point.value
        shown = values.megabytes(None if value is None else int(value))
        if found.of != "peak_rss_bytes":
            shown = values.milliseconds(value)
        add_row(
            table,
            point.digest[:_DIGITS],
            _commit(point.git_commit),
            _minute(point.made_s),
            values.UNKNOWN if point.profile is None else str(point.profile),
            shown,
            percent(point.change),
            _spread(point),
            _judged(point, first=point == found.first_bad),
        )
    return table


def percent(value: float | None) -> str:
    """A signed change, one decimal: +3.1 %."""
    return values.UNKNOWN if value is None else f"{100 * value:+.1f} %"


def state_of(profile: Profile | ProfileLine) -> str:
    """VALID, or INVALID and why; a stand-in is named with what it stands in for, whatever else is wrong."""
    reasons = [reason for reason in profile.reasons if reason != "stand-in"]
    told = f"INVALID: {', '.join(reasons)}" if reasons or not (profile.valid or profile.stand_in) else "VALID"
    if not profile.stand_in:
        return told
    stand_in = f"stand-in for {profile.stand_in_for}" if profile.stand_in_for else "stand-in"
    return f"{stand_in}; {told}" if reasons else stand_in


def _state(profile: Profile | ProfileLine) -> Text:
    told = state_of(profile)
    return Text(told, style="green" if told == "VALID" else "red" if "INVALID" in told else "yellow")


def _latency(pairs: Sequence[LatencyPair]) -> Table:
    table = plain_table(
        ("artifact", "l"),
        ("device", "l"),
        ("runtime", "l"),
        ("p50 ms A", "r"),
        ("p50 ms B", "r"),
        ("change", "r"),
        ("95 % interval", "l"),
        ("", "l"),
        ("p99 ms A", "r"),
        ("B", "r"),
        ("peak MB A", "r"),
        ("B", "r"),
    )
    for pair in pairs:
        first, second, compared = pair.reference, pair.candidate, pair.comparison
        if compared is None:
            change, spread, outcome = values.UNKNOWN, values.UNKNOWN, Text("NOT COMPARED", style="yellow")
        else:
            low, high = compared.change_interval
            change, spread = percent(compared.change), f"{percent(low)} to {percent(high)}"
            outcome = Text(compared.verdict, style=_VERDICTS[compared.verdict])
            outcome.append(", interleaved" if compared.interleaved else "", style="dim")
        for name, profile in (("A", first), ("B", second)):
            if not profile.valid:
                outcome.append(f"\n{name}: {state_of(profile)}", style="yellow")
        add_row(
            table,
            pair.artifact,
            _both(first.device, second.device),
            _both(first.runtime, second.runtime),
            values.milliseconds(first.summary.p50_ms),
            values.milliseconds(second.summary.p50_ms),
            change,
            spread,
            outcome,
            values.milliseconds(first.summary.p99_ms),
            values.milliseconds(second.summary.p99_ms),
            values.megabytes(first.peak_rss_bytes),
            values.megabytes(second.peak_rss_bytes),
        )
    return table


def _sizes(rows: Sequence[SizePair]) -> Table:
    table = plain_table(
        ("artifact", "l"), ("KB A", "r"), ("KB B", "r"), ("metric", "l"), ("A", "r"), ("B", "r"), ("runtime", "l")
    )
    for row in rows:
        add_row(
            table,
            row.artifact,
            values.kilobytes(row.reference_bytes),
            values.kilobytes(row.candidate_bytes),
            row.metric or "not measured",
            values.metric(row.reference_value, is_share=row.is_share),
            values.metric(row.candidate_value, is_share=row.is_share),
            _both(row.reference_runtime, row.candidate_runtime),
        )
    return table


def _judged(point: Point, *, first: bool) -> Text:
    told = Text(point.state, style=_STATES[point.state])
    if point.reason:
        told.append(f": {point.reason}", style="default")
    return told.append("  ← the first", style="bold red") if first else told


def _spread(point: Point) -> str:
    if point.low is None:
        return values.UNKNOWN
    return f"{percent(point.low)} to {percent(point.high)}"


def _both(first: str, second: str) -> str:
    return first if first == second else f"{first or values.UNKNOWN}, {second or values.UNKNOWN}"


def _commit(commit: str | None) -> str:
    if commit is None:
        return values.UNKNOWN
    digits, dash, dirty = commit.partition("-")
    return f"{digits[:_DIGITS]}{dash}{dirty}"


def _minute(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


@dataclass(frozen=True)
class _Column:
    """A column of the history; `known` says whether a line has something in it that is worth one."""

    heading: str
    side: str
    cell: Callable[[ProfileLine], str | Text]
    known: Callable[[ProfileLine], object] = bool
    always: bool = True


def _optional(
    heading: str, side: str, cell: Callable[[ProfileLine], str], known: Callable[[ProfileLine], object]
) -> _Column:
    return _Column(heading, side, cell, known, always=False)


_COLUMNS = (
    _Column("no.", "r", lambda line: str(line.id)),
    _Column("measured (UTC)", "l", lambda line: _minute(line.measured_s)),
    _optional("recipe", "l", lambda line: line.recipe or values.UNKNOWN, lambda line: line.recipe),
    _optional("target", "l", lambda line: line.target or values.UNKNOWN, lambda line: line.target),
    _Column("artifact", "l", lambda line: line.artifact),
    _optional("precision", "l", lambda line: line.precision or values.UNKNOWN, lambda line: line.precision),
    _Column("device", "l", lambda line: line.device),
    _Column("runtime", "l", lambda line: f"{line.runtime} {line.runtime_version}"),
    _optional("threads", "r", lambda line: str(line.threads), lambda line: line.threads != 1),
    _optional("batch", "r", lambda line: str(line.batch), lambda line: line.batch != 1),
    _Column(
        "p50 ms [95 % interval]",
        "l",
        lambda line: f"{line.p50_ms:.4g} [{line.p50_low_ms:.4g}, {line.p50_high_ms:.4g}]",
    ),
    _Column("p99 ms", "r", lambda line: values.milliseconds(line.p99_ms)),
    _Column("peak MB", "r", lambda line: values.megabytes(line.peak_rss_bytes)),
    _optional("mJ", "r", lambda line: values.milliseconds(line.energy_mj), lambda line: line.energy_mj is not None),
    _optional("build", "l", lambda line: (line.build or values.UNKNOWN)[:_DIGITS], lambda line: line.build),
    _optional("commit", "l", lambda line: _commit(line.git_commit), lambda line: line.git_commit),
    _Column("", "l", lambda line: _state(line)),
)
