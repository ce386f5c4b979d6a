"""`edgekit profile`: how fast an artifact is on a device, under which conditions, and whether to believe it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit import api
from edgekit.cli import complete
from edgekit.cli.output import console, json_option, print_json
from edgekit.cli.progress import draw_nothing, draw_progress

if TYPE_CHECKING:
    from edgekit.pipeline.progress import Reporter, Update

EXIT_NOT_MEASURED = 4
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class Seconds(click.ParamType[float]):
    """A time such as 90, 90s, 30m, 1h; in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The time in seconds; a usage error where it is none."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value))
        if match is None or float(match[1]) == 0:
            self.fail(f"{value!r} is no time; write 90s, 30m or 1h", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


class InputShape(click.ParamType[tuple[str, list[int]]]):
    """name:1x3x224x224."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, list[int]]:
        """Name and sizes; a usage error where it is none. A name may have colons of its own."""
        name, _, sizes = str(value).rpartition(":")
        if not name or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", sizes):
            self.fail(f"{value!r} is no shape; write name:1x3x224x224", param, ctx)
        return name, [int(size) for size in sizes.split("x")]


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path), metavar="ARTIFACT|BUNDLE")
@click.option(
    "--device",
    "devices",
    multiple=True,
    default=("local",),
    shell_complete=complete.devices,
    show_default=True,
    metavar="NAME",
    help="Board of devices.yaml; several are measured at the same time.",
)
@click.option("--runtime", metavar="NAME", help="What executes it; else what the device's target runs the format with.")
@click.option("--threads", type=click.IntRange(min=1), help="Of the runtime; else as the device's target says.")
@click.option("--batch", type=click.IntRange(min=1), help="Of a file that leaves its batch open.")
@click.option(
    "--input-shape",
    "shapes",
    type=InputShape(),
    multiple=True,
    metavar="NAME:1x3x224x224",
    help="Of an input whose shape the file leaves open.",
)
@click.option("--warmup", "warmup_ms", type=click.FloatRange(min=0), help="Milliseconds of warm-up at least.")
@click.option("--duration", "duration_s", type=Seconds(), help="Of timed runs at least: 3, 90s, 5m.")
@click.option("--iterations", "min_runs", type=click.IntRange(min=1), help="Timed runs at least.")
@click.option(
    "--percentile", type=click.FloatRange(0, 100, min_open=True, max_open=True), help="Highest percentile asked for."
)
@click.option("--fps", type=click.FloatRange(min=0, min_open=True), help="One inference a period, idle in between.")
@click.option("--sustained", "sustained_s", type=Seconds(), help="So long without a pause: 30m. Drift is the result.")
@click.option(
    "--idle", "idle_s", type=click.FloatRange(min=0), help="Seconds of idle power before, with a power meter."
)
@click.option("--layers", is_flag=True, help="Also the time of every layer, in a run of its own.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write the profiles with every sample, as JSON.",
)
@json_option
def profile(
    artifact: Path,
    devices: tuple[str, ...],
    runtime: str | None,
    threads: int | None,
    batch: int | None,
    shapes: tuple[tuple[str, list[int]], ...],
    out: Path | None,
    as_json: bool,
    **measured: Any,
) -> None:
    """Measure latency, memory and energy of an artifact, or of all artifacts of a bundle, on a device.

    Every profile is kept in the database with all its samples (.edgekit/profiles.sqlite, EDGEKIT_HOME, EDGEKIT_DB).

    Exit codes: 0 measured, whether VALID or not; 1 an error; 2 usage; 4 a device could not be reached or measured.
    """
    from edgekit.report.profile import print_profiles
    from edgekit.schema.profile import MeasureSettings

    settings = MeasureSettings(**{key: value for key, value in measured.items() if value is not None})
    reporter = draw_nothing() if as_json else draw_progress(console(stderr=True))
    with _several(devices, reporter) if len(devices) > 1 else _tasks(reporter) as told:
        report = api.profile(
            artifact,
            devices,
            runtime=runtime,
            threads=threads,
            batch=batch,
            shapes=dict(shapes),
            settings=settings,
            told=told,
        )
    documents = [found.model_dump(mode="json") for found in report.profiles]
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(documents, indent=1) + "\n", encoding="utf-8")
    if as_json:
        short = (
            [{**document, "samples_ms": len(document["samples_ms"])} for document in documents] if out else documents
        )
        print_json({"profiles": short, "skipped": [row.model_dump() for row in report.skipped]})
    else:
        print_profiles(console(), report.profiles, report.skipped)
    click.get_current_context().exit(EXIT_NOT_MEASURED if report.failed else 0)


@contextmanager
def _several(devices: tuple[str, ...], reporter: Reporter) -> Iterator[Any]:
    """Draws one task for all devices, and a line when one of them has ended."""
    with reporter.task(f"measuring on {', '.join(dict.fromkeys(devices))}"):
        yield lambda title, fields: reporter.note(title)


@contextmanager
def _tasks(reporter: Reporter) -> Iterator[Any]:
    """Draws what the agent tells: one task per artifact."""
    current: dict[str, Any] = {"title": None, "task": None}

    def close() -> None:
        if current["task"] is not None:
            current["task"].__exit__(None, None, None)

    def told(title: str, fields: Mapping[str, Any]) -> None:
        if title != current["title"]:
            close()
            current["title"], current["task"] = title, reporter.task(title)
            current["update"] = current["task"].__enter__()
        update: Update = current["update"]
        if "done" in fields and "total" in fields:
            left_s = fields.get("left_s")
            note = fields.get("stage", "") if left_s is None else f"{float(left_s):.0f} s left"
            update(int(fields["done"]), int(fields["total"]), str(note))

    try:
        yield told
    finally:
        close()
