"""`edgekit debug`: where an artifact departs from what it should be, and why."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from edgekit.cli import complete
from edgekit.cli.output import console, counted, json_option, print_json
from edgekit.cli.progress import draw_nothing, draw_progress
from edgekit.report.tables import add_row, plain_table

if TYPE_CHECKING:
    from rich.console import Console

    from edgekit.schema.debug import Comparison, LayerRow

EXIT_BAD_LAYER = 3
_STYLES = {"ok": "", "coarse": "bold yellow", "bad": "bold red"}


@click.group()
def debug() -> None:
    """Find the layer at which an artifact departs from its network."""


@debug.command()
@click.argument("first", metavar="A", shell_complete=complete.recipes)
@click.argument("second", required=False, metavar="[B]")
@click.option(
    "--samples",
    metavar="NAME|FILE",
    help="Calibration set, or .npz of arrays (samples, ...). Else a bundle's parity samples, or the recipe's data.",
)
@click.option("--count", type=click.IntRange(min=1), default=16, show_default=True, help="How many samples.")
@click.option(
    "--target", metavar="NAME", shell_complete=complete.targets, help="Class of hardware that a recipe is planned for."
)
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write a page with plots of signal-to-noise ratio by layer.",
)
@json_option
def parity(
    first: str,
    second: str | None,
    samples: str | None,
    count: int,
    target: str | None,
    page: Path | None,
    as_json: bool,
) -> None:
    """Compare B with A layer by layer, and name the first bad layer with its reason.

    A and B are a bundle's folder, a recipe, or an .onnx or .tflite file. A bundle or a recipe as A stands for its float
    network. A bundle alone: every artifact against its float network, and against each other.

    The float network is made by running the recipe, a bundle's own too, with the functions that it names: name only
    bundles that you would build. Steps are taken from the store where they are there.

    Exit codes: 0 every layer is within bounds; 1 an error; 2 usage; 3 a bad layer was found.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see cli/build.py
    # imports torch, so only once the arguments are known to be sound
    from edgekit.debug.parity import ParityRequest, debug_parity
    from edgekit.report.layers import render_layers

    reporter = draw_nothing() if as_json else draw_progress(console(stderr=True))
    report = debug_parity(ParityRequest(first, second, samples, count, target), reporter)
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(render_layers(report), encoding="utf-8")
    if as_json:
        print_json({**report.model_dump(mode="json"), "passed": report.passed})
    else:
        out = console()
        for i, comparison in enumerate(report.comparisons):
            # each artifact against the network in full; of the pairs only what is wrong
            _print(out, comparison, whole=i == 0 or comparison.reference == report.comparisons[0].reference)
        if page is not None:
            out.print(Text(f"plots: {page}", style="dim"))
    click.get_current_context().exit(0 if report.passed else EXIT_BAD_LAYER)


def _print(out: Console, comparison: Comparison, *, whole: bool) -> None:
    bad = comparison.first_bad
    out.print()
    out.print(
        Text.assemble((comparison.candidate, "bold"), " against ", (comparison.reference, "bold")), soft_wrap=True
    )
    facts = f"{counted(comparison.samples, 'sample')}, {comparison.sample_source}; layers matched {comparison.matched}"
    out.print(Text(facts, style="dim"), soft_wrap=True)
    for note in comparison.notes:
        out.print(Text(note, style="yellow"), soft_wrap=True)
    for what, names in (("A", comparison.reference_only), ("B", comparison.candidate_only)):
        if names:
            out.print(Text(f"only in {what}, judged with what reads them: {', '.join(names)}", style="dim"))
    if whole or bad is not None:
        _print_table(out, comparison)
    if bad is not None:
        style = _STYLES[bad.state]
        more = [row.layer for row in comparison.layers if row.state != "ok" and row is not bad]
        out.print(Text.assemble(("BAD LAYER  ", style), (bad.layer, "bold"), f": {bad.reason}"), soft_wrap=True)
        if more:
            out.print(Text(f"also out of bounds: {', '.join(more)}", style="dim"), soft_wrap=True)
        return
    worst = min((row for row in comparison.layers if row.snr_db is not None), key=_snr, default=None)
    told = "no error at all" if worst is None else f"lowest accumulated {worst.snr_db:.1f} dB, at {worst.layer}"
    out.print(Text.assemble(("NO BAD LAYER  ", "bold green"), f"every layer's own error is explained; {told}"))


def _snr(row: LayerRow) -> float:
    return row.snr_db or 0.0


def _print_table(out: Console, comparison: Comparison) -> None:
    from edgekit.report.layers import codes, decibels, plain, ratio

    two = len(comparison.runtimes) > 1
    columns = [("layer", "l"), ("kind", "l"), ("SNR dB", "r"), ("cosine", "r"), ("max error", "r"), ("codes", "r")]
    columns += [("own SNR", "r"), ("explained", "r")] + ([("unfused", "r")] if two else [])
    table = plain_table(*columns, ("clipped", "r"), ("", "l"))
    for row in comparison.layers:
        cells = [row.layer, row.kind, ratio(row, row.snr_db), "–" if row.cosine is None else f"{row.cosine:.5f}"]
        cells += [plain(row.max_abs_error), codes(row.max_code_error), decibels(row.own_snr_db)]
        cells += [decibels(row.explained_snr_db)] + ([decibels(row.plain_own_snr_db)] if two else [])
        cells += [
            f"{100 * row.clipped_ratio:.2g} %" if row.clipped_ratio else "",
            "" if row.state == "ok" else row.state,
        ]
        add_row(table, *(Text(cell, style=_STYLES[row.state]) for cell in cells))
    out.print(table)
