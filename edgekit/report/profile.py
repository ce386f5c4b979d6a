"""Profiles in the terminal: one table of all, then what each was measured under, where it spent its time and energy."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgekit.report import values
from edgekit.report.tables import add_row, plain_table
from edgekit.schema.manifest import Skipped
from edgekit.schema.profile import Conditions, Energy, Profile

_LAYERS = 20
_NOT_READ = "not available"


def print_profiles(console: Console, profiles: Sequence[Profile], skipped: Sequence[Skipped] = ()) -> None:
    """Print profiles, and what could not be measured with its reason."""
    if profiles:
        _heading(console, "Profiles")
        console.print(Padding(_overview(profiles), (0, 0, 0, 1)))
    for profile in profiles:
        _heading(console, f"{profile.artifact} on {_place(profile)}")
        for label, text in _facts(profile):
            console.print(Padding(Text.assemble((f"{label}: ", "dim"), text), (0, 0, 0, 1)))
        for table in (_minutes(profile), _layers(profile)):
            if table is not None:
                console.print()
                console.print(Padding(table, (0, 0, 0, 1)))
    if skipped:
        _heading(console, "Not measured")
        table = plain_table(("what", "l"), ("where", "l"), ("reason", "l"))
        for row in skipped:
            add_row(table, row.what, row.where, row.reason)
        console.print(Padding(table, (0, 0, 0, 1)))


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold cyan"))


def _place(profile: Profile) -> str:
    return f"{profile.device} (stand-in for {profile.stand_in_for})" if profile.stand_in else profile.device


def _overview(profiles: Sequence[Profile]) -> Table:
    table = plain_table(
        ("file", "l"),
        ("device", "l"),
        ("runtime", "l"),
        ("p50 ms", "r"),
        ("95 % interval", "l"),
        ("p90 ms", "r"),
        ("p99 ms", "r"),
        ("MB", "r"),
        ("mJ", "r"),
        ("", "l"),
    )
    for profile in profiles:
        of = profile.summary
        device = Text(profile.device)
        if profile.stand_in:
            device.append("\nstand-in", style="yellow")
        state = "VALID" if profile.valid else f"INVALID: {', '.join(profile.reasons)}"
        energy = profile.energy
        add_row(
            table,
            profile.artifact,
            device,
            f"{profile.runtime} {profile.runtime_version}",
            values.milliseconds(of.p50_ms),
            f"{of.p50_low_ms:.4g} to {of.p50_high_ms:.4g}",
            values.milliseconds(of.p90_ms),
            values.milliseconds(of.p99_ms),
            values.megabytes(profile.peak_rss_bytes),
            values.milliseconds(energy.energy_per_inference_mj if energy else None),
            Text(state, style="green" if profile.valid else "red"),
        )
    return table


def _facts(profile: Profile) -> list[tuple[str, str]]:
    settings, of = profile.settings, profile.conditions
    facts = [
        (
            "measured",
            f"{profile.summary.n:,} samples, {_mode(profile)}, threads {settings.threads}, batch {settings.batch}",
        ),
        ("processor", ", ".join(filter(None, (of.cpu or str(of.extra.get("board", "")), of.architecture)))),
        ("clock", _clock(of)),
        ("temperature", _span(of.temp_c_start, of.temp_c_max, of.temp_c_end, "°C", "highest")),
        ("throttled", _throttled(of)),
        ("energy", energy_text(profile.energy)),
        ("GPU memory", _gpu_memory(profile)),
    ]
    if profile.cadence is not None:
        frames = profile.cadence
        facts.append(
            (
                "deadlines",
                f"{frames.missed:,} of {frames.due:,} frames missed ({100 * frames.missed_ratio:.2g} %), "
                f"{frames.dropped:,} of them never looked at",
            )
        )
    if profile.sustained is not None:
        found = profile.sustained
        facts.append(
            (
                "last minute / first",
                f"{found.slowdown:.3f} [{found.low:.3f}, {found.high:.3f}] times the p50; "
                f"{100 * found.kept_ratio:.3g} % of the runs kept as samples",
            )
        )
    layers_ms = profile.layers_ms
    if layers_ms is not None:
        whole_ms = profile.summary.mean_ms
        facts.append(
            (
                "layers",
                f"sum {layers_ms:.4g} ms beside a mean of {whole_ms:.4g} ms without a profiler, "
                f"ratio {layers_ms / whole_ms:.2f}: the profiler costs time, and what lies between layers is in none",
            )
        )
    elif profile.layers_unavailable:
        facts.append(("layers", f"{_NOT_READ}: {profile.layers_unavailable}"))
    return facts


def _mode(profile: Profile) -> str:
    settings = profile.settings
    how = "back to back" if settings.fps is None else f"one inference each 1/{settings.fps:g} s"
    return how if settings.sustained_s is None else f"{how} for {settings.sustained_s / 60:.3g} min"


def energy_text(energy: Energy | None) -> str:
    """Energy of one inference with meter and rails, or why it is not available."""
    if energy is None:
        return f"{_NOT_READ}: measured before edgekit measured energy"
    meter = f"{energy.source}: {', '.join(energy.rails)}" if energy.rails else energy.source
    parts = []
    if energy.energy_per_inference_mj is not None:
        parts.append(f"{energy.energy_per_inference_mj:.4g} mJ above idle")
    else:
        parts.append(f"above idle {_NOT_READ}: {energy.unavailable}")
    if energy.gross_per_inference_mj is not None and energy.load_w is not None:
        idle = "" if energy.idle_w is None else f", {energy.idle_w:.3g} W idle"
        parts.append(f"{energy.gross_per_inference_mj:.4g} mJ in all ({energy.load_w:.3g} W{idle})")
    return "; ".join([*parts, *([meter] if meter else []), *([energy.note] if energy.note else [])])


def _clock(of: Conditions) -> str:
    parts = [_span(of.clock_mhz_start, of.clock_mhz_min, of.clock_mhz_end, "MHz", "lowest")]
    if of.gpu_clock_mhz_start is not None or of.gpu_clock_mhz_min is not None:
        parts.append(
            "GPU " + _span(of.gpu_clock_mhz_start, of.gpu_clock_mhz_min, of.gpu_clock_mhz_end, "MHz", "lowest")
        )
    parts.append(f"governor {of.governor or _NOT_READ}")
    if of.clocks_pinned is not None:
        parts.append("clocks pinned" if of.clocks_pinned else "clocks not pinned")
    if of.power_mode is not None:
        parts.append(f"power mode {of.power_mode}")
    return ", ".join(parts)


def _span(start: float | None, extreme: float | None, end: float | None, unit: str, word: str) -> str:
    if start is None and extreme is None and end is None:
        return _NOT_READ
    told = [
        (f"{word} while it ran", extreme),
        ("before", start),
        ("after", end),
    ]
    return ", ".join(f"{value:.4g} {unit} {when}" for when, value in told if value is not None)


def _throttled(of: Conditions) -> str:
    if of.throttled is None:
        return f"{_NOT_READ}: nothing on this device tells it"
    source = f" ({of.throttle_source})" if of.throttle_source else ""
    return f"yes: {', '.join(of.throttled_by) or 'the firmware says so'}{source}" if of.throttled else f"no{source}"


def _gpu_memory(profile: Profile) -> str:
    if profile.peak_gpu_bytes is not None:
        return f"{values.megabytes(profile.peak_gpu_bytes)} MB at most"
    return f"{_NOT_READ}: {profile.gpu_memory_unavailable or 'from before it was measured'}"


def _minutes(profile: Profile) -> Table | None:
    if profile.sustained is None:
        return None
    table = plain_table(
        ("minute", "r"),
        ("runs", "r"),
        ("p50 ms", "r"),
        ("p90 ms", "r"),
        ("°C", "r"),
        ("MHz", "r"),
        ("GPU MHz", "r"),
        ("missed", "r"),
        ("throttled", "l"),
    )
    for number, row in enumerate(profile.sustained.minutes, 1):
        held = values.UNKNOWN if row.throttled is None else ", ".join(row.throttled_by) if row.throttled else "no"
        add_row(
            table,
            str(number),
            f"{row.runs:,}",
            values.milliseconds(row.p50_ms),
            values.milliseconds(row.p90_ms),
            values.milliseconds(row.temp_c_max),
            values.milliseconds(row.clock_mhz_min),
            values.milliseconds(row.gpu_clock_mhz_min),
            values.UNKNOWN if row.missed is None else f"{row.missed:,}",
            held,
        )
    return table


def _layers(profile: Profile) -> Table | None:
    """The longest layers; all of them are in the profile."""
    if not profile.layers:
        return None
    table = plain_table(("layer", "l"), ("operator", "l"), ("precision", "l"), ("ms", "r"), ("share", "r"))
    longest = sorted(profile.layers, key=lambda row: -row.mean_ms)
    for row in longest[:_LAYERS]:
        precision = row.precision or values.UNKNOWN
        add_row(table, row.name, row.operator, precision, values.milliseconds(row.mean_ms), values.share(row.ratio))
    rest = longest[_LAYERS:]
    if rest:
        whole = sum(row.mean_ms for row in rest)
        share = values.share(sum(row.ratio for row in rest))
        add_row(table, Text(f"{len(rest)} more", style="dim"), "", "", values.milliseconds(whole), share)
    return table
