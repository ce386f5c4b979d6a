"""The last thing a person sees of a build: what each step did, what was made, how fast it is, may it ship."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgekit.report import values
from edgekit.report.precision import precision_block
from edgekit.report.pruning import pruning_block
from edgekit.report.sparsity import sparsity_block
from edgekit.report.tables import add_row, plain_table
from edgekit.schema.manifest import ArtifactRow, GateRow, Manifest, Measure, ParityRow, SpeedRow, StepRow, Verdict

_VERDICTS: dict[Verdict, tuple[str, str]] = {
    "pass": ("PASS", "bold white on green"),
    "fail": ("FAIL", "bold white on red"),
    "incomplete": ("INCOMPLETE", "bold black on yellow"),
}
_STATES = {
    "passed": ("passed", "green"),
    "failed": ("FAILED", "bold red"),
    "not evaluated": ("not evaluated", "yellow"),
    "waived": ("waived", "yellow"),
}
_SPEEDS = {"faster": "green", "slower": "red", "no significant change": "yellow"}


def print_summary(
    console: Console, manifest: Manifest, bundle_path: Path | None, steps: Sequence[StepRow] | None = None
) -> None:
    """Print the summary of a build.

    Args:
        console: decides on colour and width; 100 columns are enough.
        bundle_path: where the bundle lies; None when none was written.
        steps: as they were run. A bundle made without measuring keeps neither seconds nor `cached`; these do.
    """
    title = Text.assemble((manifest.recipe.name, "bold"), " → ", (manifest.target.name, "bold"))
    console.print()
    console.print(title, Text(f"edgekit {manifest.edgekit_version}", style="dim"))
    rows = manifest.steps if steps is None else steps
    precision, zeros, pruned = precision_block(manifest), sparsity_block(manifest), pruning_block(manifest)
    found = [(f"Look at the data: {len(manifest.findings)}", _findings(manifest))] if manifest.findings else []
    for heading, block in (
        ("Steps", _steps(manifest, rows)),
        *((("What was pruned", pruned),) if pruned is not None else ()),
        *((("Precision of single layers", precision),) if precision is not None else ()),
        ("Artifacts", _artifacts(manifest)),
        *((("Zeros among the weights", zeros),) if zeros is not None else ()),
        *(((f"{manifest.metrics.name} on the device", _on_board(manifest)),) if manifest.board_metrics else ()),
        ("Latency", _latency(manifest)),
        ("Gates", _gates(manifest.gates)),
        (f"Skipped: {len(manifest.skipped)}", _skipped(manifest)),
        *found,
    ):
        console.print()
        console.print(Text(heading, style="bold cyan"))
        console.print(Padding(block, (0, 0, 0, 1)))
    word, style = _VERDICTS[manifest.verdict]
    console.print()
    console.print(Text.assemble("Verdict  ", (f" {word} ", style), f"  {_why(manifest)}"))
    place = Text("not written", style="red") if bundle_path is None else Text(str(bundle_path))
    console.print(Text("Bundle   ").append_text(place), soft_wrap=True)


def _steps(manifest: Manifest, rows: Sequence[StepRow]) -> Table | Text:
    if not rows:
        return Text("none", style="dim")
    metric, is_share = manifest.metrics.name, manifest.metrics.is_share
    table = plain_table(
        ("step", "l"),
        ("params", "r"),
        ("MACs", "r"),
        ("KB", "r"),
        (f"{metric} (selection)", "r"),
        ("seconds", "r"),
        ("", "l"),
    )
    first = next((row for row in rows if row.model == "model"), None)
    for row in rows:
        if row is first and row.before is not None:
            add_row(table, Text("as loaded", style="dim"), *_measures(row.before, is_share), "", "")
        name = Text.assemble((f"{row.model}: " if row.model != "model" else "", "dim"), row.name)
        if row.calibration is not None and row.calibration.source == "synthetic":
            name.append("\nranges from synthetic samples", style="yellow")
        cached = Text("cached", style="cyan") if row.cached else Text("")
        seconds = values.seconds(row.seconds)
        add_row(table, name, *_measures(row.after, is_share), seconds, cached)
    return table


def _measures(of: Measure, is_share: bool) -> tuple[str, str, str, str]:
    metric = values.metric(of.metric, is_share=is_share)
    return values.count(of.params), values.count(of.macs), values.kilobytes(of.size_bytes), metric


def _artifacts(manifest: Manifest) -> Table:
    metric, is_share = manifest.metrics.name, manifest.metrics.is_share
    table = plain_table(
        ("file", "l"),
        ("KB", "r"),
        (f"{metric} (test)", "r"),
        ("runtime", "l"),
        ("parity", "l"),
        ("in float", "l"),
    )
    for name, value in sorted(manifest.metrics.float.items()):
        label = "float network" if name == metric else f"float network, {name}"
        add_row(table, Text(label, style="dim"), "", values.metric(value, is_share=is_share), "PyTorch", "", "")
    for row in manifest.artifacts:
        found = manifest.metrics.per_artifact.get(row.path, {})
        first = found.get(metric) or next(iter(found.values()), None)
        runtime = Text(first.runtime if first else values.UNKNOWN)
        if first and first.stand_in:
            runtime.append("\nstand-in runtime", style="yellow")
        if row.engine:
            runtime.append(f"\nengine: {row.engine}", style="yellow")
        file = Text(row.path).append(f"\n{row.format}, {row.convention}, {row.precision}", style="dim")
        if row.nodes:
            file.append(f"\n{values.form(row)}", style="dim")
        add_row(
            table,
            file,
            values.kilobytes(row.size_bytes),
            values.metric(first.value if first else None, is_share=is_share),
            runtime,
            _parity([parity for parity in manifest.parity if parity.candidate == row.path]),
            _in_float(row),
        )
    return table


def _parity(rows: Sequence[ParityRow]) -> Text:
    if not rows:
        return Text(values.UNKNOWN)
    worst = max(rows, key=lambda row: (not row.passed, row.max_abs_error))
    state = Text("passed", style="green") if worst.passed else Text("FAILED", style="bold red")
    codes = [row.max_code_error for row in rows if row.max_code_error is not None]
    detail = f" ±{max(codes)} code{'' if max(codes) == 1 else 's'}" if codes else f" {worst.max_abs_error:.1e}"
    return state.append(detail, style="dim")


def _in_float(row: ArtifactRow) -> Text:
    if row.computes_in_float:
        return Text("all", style="dim")
    if not row.in_float:
        return Text("none", style="green")
    counts: dict[str, int] = {}
    for node in row.in_float:
        counts[node.op] = counts.get(node.op, 0) + 1
    return Text(", ".join(f"{number} {op}" for op, number in sorted(counts.items())), style="yellow")


def _on_board(manifest: Manifest) -> Table:
    table = plain_table(
        ("file", "l"),
        ("device", "l"),
        ("runtime", "l"),
        (manifest.metrics.name, "r"),
        ("built", "r"),
        ("samples", "r"),
        ("same answers", "r"),
    )
    for row in manifest.board_metrics:
        device = Text(row.device)
        if row.stand_in:
            device.append(" stand-in", style="yellow")
        is_share = manifest.metrics.is_share
        there, here = (values.metric(value, is_share=is_share) for value in (row.value, row.host_value))
        same = values.share(row.agreement_ratio)
        add_row(table, row.artifact, device, row.runtime, there, here, str(row.samples), same)
    return table


def _latency(manifest: Manifest) -> RenderableType:
    if not manifest.profiles:
        return Text("not measured", style="yellow")
    table = plain_table(
        ("file", "l"),
        ("device", "l"),
        ("runtime", "l"),
        ("p50 ms", "r"),
        ("p90 ms", "r"),
        ("p99 ms", "r"),
        ("", "l"),
    )
    for row in manifest.profiles:
        device = Text(row.device)
        if row.stand_in:
            device.append(" stand-in", style="yellow")
        state = Text(values.profile_state(row), style="green" if row.valid else "red")
        times = (values.milliseconds(value) for value in (row.p50_ms, row.p90_ms, row.p99_ms))
        add_row(table, row.artifact, device, row.runtime, *times, state)
    if not manifest.speed:
        return table
    return Group(table, Text(), Text("Did compression make it faster?", style="dim"), _speed(manifest.speed))


def _speed(rows: Sequence[SpeedRow]) -> Table:
    table = plain_table(
        ("file", "l"), ("against", "l"), ("times as fast", "r"), ("95 % interval", "l"), ("MACs", "r"), ("", "l")
    )
    for row in rows:
        verdict = Text(row.verdict, style=_SPEEDS[row.verdict])
        if row.stand_in:
            verdict.append(", on a stand-in", style="yellow")
        interval = f"{row.low:.2f} to {row.high:.2f}"
        add_row(
            table,
            row.artifact,
            row.reference,
            f"{row.speedup:.2f}",
            interval,
            values.whole_share(row.macs_ratio),
            verdict,
        )
    return table


def _gates(rows: Sequence[GateRow]) -> Table | Text:
    if not rows:
        return Text("neither the recipe nor the target sets one", style="dim")
    table = plain_table(("gate", "l"), ("of", "l"), ("value", "r"), ("bound", "l"), ("outcome", "l"))
    for row in rows:
        word, style = _STATES[row.state]
        outcome = Text(word, style=style)
        if row.reason:
            outcome.append(f": {row.reason}", style="default")
        add_row(table, row.name, row.subject or "float network", values.gate_value(row), row.bound, outcome)
    return table


def _skipped(manifest: Manifest) -> Table | Text:
    if not manifest.skipped:
        return Text("nothing was skipped", style="green")
    table = plain_table(("what", "l"), ("where", "l"), ("reason", "l"))
    for row in manifest.skipped:
        add_row(table, row.what, row.where, row.reason)
    return table


def _findings(manifest: Manifest) -> Table:
    table = plain_table(("what", "l"), ("where", "l"), ("what to do", "l"))
    for row in manifest.findings:
        add_row(table, row.what, row.where, row.fix)
    return table


def _why(manifest: Manifest) -> str:
    """The gates that made the verdict, counted."""
    failed = [row for row in manifest.gates if row.state == "failed"]
    if failed:
        return f"{len(failed)} of {len(manifest.gates)} gates failed"
    waiting = [row for row in manifest.gates if row.state == "not evaluated" and row.required]
    if waiting:
        reasons = ", ".join(sorted({row.reason for row in waiting}))
        return f"{len(waiting)} of {len(manifest.gates)} gates not evaluated: {reasons}"
    return f"all {len(manifest.gates)} gates passed or not required" if manifest.gates else "no gate was set"
