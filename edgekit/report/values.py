"""How numbers are shown, the same in the terminal and in report.html. A value that is not known is an en dash."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a list of profiles should not wait for the manifest's schema
    from edgekit.schema.manifest import ArtifactRow, GateRow, ProfileRow

UNKNOWN = "–"


def share(value: float | None) -> str:
    """A number in [0, 1] to two decimals of a per cent."""
    return metric(value, is_share=True)


def metric(value: float | None, *, is_share: bool) -> str:
    """A share to two decimals of a per cent; any other number with four digits."""
    if value is None:
        return UNKNOWN
    return f"{100 * value:.2f} %" if is_share else f"{value:.4g}"


def whole_share(value: float) -> str:
    """A ratio as a whole per cent."""
    return f"{100 * value:.0f} %"


def kilobytes(size_bytes: int | None) -> str:
    """KB of 1,000 bytes."""
    return UNKNOWN if size_bytes is None else f"{size_bytes / 1000:,.1f}"


def count(value: int | None) -> str:
    """With a suffix from 10,000 up: 4.31 M."""
    if value is None:
        return UNKNOWN
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            divisor = 1e3 if suffix == "k" else limit
            return f"{value / divisor:.4g} {suffix}"
    return f"{value:,}"


def form(row: ArtifactRow) -> str:
    """Which form of a recurrent network an artifact is, with the operators of both; empty for other networks."""
    if not row.nodes:
        return ""
    step, unrolled = f"{row.nodes['step']:,}", f"{row.nodes['unrolled']:,}"
    if row.feedback:
        return f"one step: {step} nodes; unrolled: {unrolled}"
    return f"unrolled: {unrolled} nodes; one step: {step}"


def milliseconds(value: float | None) -> str:
    """Four digits."""
    return UNKNOWN if value is None else f"{value:.4g}"


def seconds(value: float | None) -> str:
    """One decimal."""
    return UNKNOWN if value is None else f"{value:.1f}"


def megabytes(size_bytes: int | None) -> str:
    """MB of 1,000,000 bytes."""
    return UNKNOWN if size_bytes is None else f"{size_bytes / 1e6:,.1f}"


def moment(text: str) -> str:
    """An ISO 8601 time to the second: 2026-01-31 12:00:00 UTC."""
    day, _, time = text.partition("T")
    return f"{day} {time[:8]} UTC" if time else text


def gate_value(row: GateRow) -> str:
    """The value of a gate in the unit of its bound."""
    if row.value is None:
        return UNKNOWN
    return f"{row.value:,.0f}" if row.name.endswith("_bytes") else f"{row.value:.4g}"


def gate_outcome(row: GateRow) -> str:
    """State and reason: `not evaluated: no device`."""
    return f"{row.state}: {row.reason}" if row.reason else row.state


def profile_state(row: ProfileRow) -> str:
    """VALID, or INVALID and why."""
    return "VALID" if row.valid else f"INVALID: {', '.join(row.reasons)}"
