"""`edgekit compare`: is B faster or slower than A, and by how much, as far as the samples can tell?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from edgekit import api
from edgekit.cli.output import console, json_option, print_json

if TYPE_CHECKING:
    from edgekit.schema.profile import Profile
    from edgekit.store.compared import Compared, LatencyPair
    from edgekit.store.sides import Side

EXIT_DONE, EXIT_ERROR, EXIT_SLOWER, EXIT_NOT_MEASURED = 0, 1, 3, 4
_NEGLIGIBLE = "0.02"


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--across", is_flag=True, help="Compare times although device, runtime or settings differ.")
@click.option(
    "--fail-if-slower",
    "allowed_ratio",
    type=click.FloatRange(min=0),
    is_flag=False,
    flag_value=_NEGLIGIBLE,
    default=None,
    metavar="[RATIO]",
    help="Exit with 3 when B is slower by more than this share (0.02 if none is given), by its whole interval.",
)
@json_option
def compare(a: str, b: str, across: bool, allowed_ratio: float | None, as_json: bool) -> None:
    """Compare B with A: latency with a 95 % interval, memory, size, metrics.

    Each is a profile's number, a content digest, an artifact's sha256 or a commit (six digits or more of it), the name
    of a release, or the folder of a bundle; with @DEVICE at its end, only what was measured there. The same artifact is
    compared in the same runtime on the same device; other pairs are told, not compared, unless --across.

    Exit codes: 0 done; 1 an error, or nothing can be compared; 3 slower than --fail-if-slower allows; 4 that could not
    be judged of anything, because all was measured on a stand-in, or is INVALID.
    """
    compared = api.compare(a, b, across=across)
    code, outcome = _outcome(compared, allowed_ratio)
    if as_json:
        print_json({**_document(compared), "exit_code": code, "outcome": outcome})
    else:
        _print(compared, outcome)
    click.get_current_context().exit(code)


def _outcome(compared: Compared, allowed_ratio: float | None) -> tuple[int, str]:
    """The exit code, and in a sentence why it is not 0."""
    if compared.latency and all(pair.comparison is None for pair in compared.latency):
        return EXIT_ERROR, "no latency can be compared: what differs is told above; --across compares all the same"
    if allowed_ratio is None:
        return EXIT_DONE, ""
    judged = [pair for pair in compared.latency if not pair.not_judged]
    if not judged:
        reasons = "; ".join(dict.fromkeys(pair.not_judged for pair in compared.latency)) or "no latency of both"
        return EXIT_NOT_MEASURED, f"not judged: {reasons}"
    slower = [pair for pair in judged if pair.slower_than(allowed_ratio)]
    if not slower:
        return EXIT_DONE, ""
    names = ", ".join(f"{pair.artifact} on {pair.candidate.device}" for pair in slower)
    return EXIT_SLOWER, f"slower by more than {100 * allowed_ratio:g} %: {names}"


def _print(compared: Compared, outcome: str) -> None:
    from edgekit.report.history import compared_tables

    out = console()
    for name, side in (("A", compared.reference), ("B", compared.candidate)):
        told = side.label
        if side.build is not None:
            commit = f", commit {side.build.git_commit[:12]}" if side.build.git_commit else ""
            told += f": build {side.build.digest[:12]} of {side.build.recipe} for {side.build.target}{commit}"
        out.print(Text.assemble((f"{name}  ", "bold"), told))
    out.print(compared_tables(compared))
    if outcome:
        out.print(Text(outcome, style="bold red"))


def _document(compared: Compared) -> dict[str, Any]:
    return {
        "a": _side(compared.reference),
        "b": _side(compared.candidate),
        "latency": [_pair(pair) for pair in compared.latency],
        "sizes": [vars(row) for row in compared.sizes],
        "unpaired": list(compared.unpaired),
    }


def _side(side: Side) -> dict[str, Any]:
    build = side.build
    return {
        "label": side.label,
        "build": build.digest if build else None,
        "git_commit": build.git_commit if build else None,
    }


def _pair(pair: LatencyPair) -> dict[str, Any]:
    found = pair.comparison
    low, high = found.change_interval if found else (None, None)
    return {
        "artifact": pair.artifact,
        "a": _profile(pair.reference, pair.reference_id),
        "b": _profile(pair.candidate, pair.candidate_id),
        "verdict": found.verdict if found else "not compared",
        "change": found.change if found else None,
        "change_low": low,
        "change_high": high,
        "interleaved": found.interleaved if found else None,
        "stand_in": pair.reference.stand_in or pair.candidate.stand_in,
        "differs": list(pair.forbidding),
        "also_differs": list(pair.noted),
        "not_judged": pair.not_judged,
    }


def _profile(profile: Profile, key: int | None) -> dict[str, Any]:
    summary = profile.summary
    return {
        "id": key,
        "artifact": profile.artifact,
        "artifact_sha256": profile.artifact_sha256,
        "device": profile.device,
        "runtime": f"{profile.runtime} {profile.runtime_version}",
        "measured_at": profile.measured_at,
        "p50_ms": summary.p50_ms,
        "p50_low_ms": summary.p50_low_ms,
        "p50_high_ms": summary.p50_high_ms,
        "p99_ms": summary.p99_ms,
        "peak_rss_bytes": profile.peak_rss_bytes,
        "valid": profile.valid,
        "reasons": list(profile.reasons),
        "stand_in_for": profile.stand_in_for,
    }
