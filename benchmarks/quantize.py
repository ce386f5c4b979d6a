"""Post-training quantisation: edgekit beside other quantisers and published int8 files; published networks, real data.

    EDGEKIT_DATA=<folder> python benchmarks/quantize.py [--quick] [--cases NAME ...] [--json F] [--markdown F]

METHOD says how. A lost row is printed like a won one. Every file is made once, in a process of its own, and kept below
.edgekit/benchmarks by the content of what it was made from, with what it scored: a run that was stopped goes on where
it was, and --quick measures what a full run has left.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from cases import CASES, EDGEKIT, NEAREST, PLAIN, PUBLISHED, Case, Steps
from kept import LIBRARIES, Kept
from make import FLOAT, Job, Made
from numpy.typing import NDArray
from peers import tflite_row
from rows import (
    Page,
    Results,
    describe_machine,
    describe_versions,
    mean_ratio,
    paired_difference,
    write_json,
    write_markdown,
)
from surroundings import TARGET

from edgekit.data.samples import Samples
from edgekit.data.splits import LoadedData, find_data
from edgekit.errors import DataError, EdgekitError
from edgekit.profiling.jobs import profile_interleaved
from edgekit.schema.device import Device
from edgekit.schema.load import load_recipe
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.profile import MeasureSettings, Profile

METHOD = """\
Every network is published, with its weights, by others; the data are real. All systems of a case quantise the same
float network with the same calibration samples, but the published files, which are taken as they are.

- *top1*: every image of the test split, batch 1, in the runtime that the file is for; the mean of the calibration
  draws. The first draw is the calibration split that `edgekit build` uses and is shown on its own too; the others are
  the next runs of training samples, or, where there is no training split, drawn from the calibration split with
  replacement. Differences are paired by image; an interval that holds 0 shows no difference.
- *quantise_s*, *export_s*, *peak_rss_mb*, *size_kb*: of the first draw. Quantising is calibration and rounding, in a
  process of its own with one thread; a peer's one call writes the file too. Export is from network to file. Memory is
  what the process grows by while it quantises: neither libraries nor samples are in it. No loading of libraries is in
  the seconds.
- *latency_ms*: batch 1, one thread, on this machine by the rules of [measuring.md](measuring.md). One and the same file
  differs by about 2 % from process to process, so each case is measured in several launches, every system in a new
  process each time; within a launch they take turns in rounds, so that other load hits them alike. Shown is the median
  of the launches' medians. *speed over* is the latency of the other over that of the column's system, above 1 is
  faster: the geometric mean over the launches, with Student's interval."""
STORE = Path(".edgekit/benchmarks")
QUICK_IMAGES = 2_000
FEWEST_LAUNCHES = 3  # valid ones, or there are no rows of latency
_SEED = 20240307


@dataclass(frozen=True)
class Effort:
    """How much is measured: test images, calibration draws, how latency is taken."""

    images: int | None
    draws: int
    launches: int
    settings: MeasureSettings


FULL = Effort(None, 3, 5, MeasureSettings(duration_s=2.0, percentile=90.0))
QUICK = Effort(QUICK_IMAGES, 1, 3, MeasureSettings(duration_s=1.0, percentile=90.0))


@dataclass(frozen=True)
class System:
    """One system's files, one per calibration draw, the product's own draw first.

    Attributes:
        made: what making the first took; none: the file was published.
    """

    name: str
    files: tuple[tuple[Path, ArtifactRow], ...]
    made: Made | None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"first {QUICK_IMAGES:,} images, one draw, short timings")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="only cases whose name contains one of these")
    parser.add_argument("--draws", type=int, metavar="N", help=f"calibration draws, {FULL.draws} by default")
    parser.add_argument(
        "--launches", type=int, metavar="N", help=f"timed launches, {FULL.launches} by default; 0: no latency"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows, case by case")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page of tables, case by case")
    given = parser.parse_args(arguments)
    chosen = [case for case in CASES if given.cases is None or any(part in case.name for part in given.cases)]
    if not chosen:
        parser.error(f"no such case; cases: {', '.join(case.name for case in CASES)}")
    effort = QUICK if given.quick else FULL
    launches = effort.launches if given.launches is None else given.launches
    effort = replace(effort, draws=given.draws or effort.draws, launches=launches)
    results, machine, versions = Results(), describe_machine(), describe_versions(LIBRARIES)
    command = shlex.join(["python", "benchmarks/quantize.py", *(sys.argv[1:] if arguments is None else arguments)])
    page = Page("Benchmarks: post-training quantisation", METHOD, command)
    failed = 0
    for case in chosen:
        try:
            run_case(case, effort, results, Kept(STORE))
        except EdgekitError as err:
            print(f"{case.name}: {err}", file=sys.stderr)
            results.notes.append(f"{case.name}: no rows: {err.what}")
            failed = 1
        if given.json:
            write_json(given.json, results, machine, versions)
        if given.markdown:
            write_markdown(given.markdown, page, results, machine, versions)
    return failed


def run_case(case: Case, effort: Effort, results: Results, kept: Kept) -> None:
    """Make, score and time every system of a case; add its rows.

    Raises:
        EdgekitError: our own side failed. A peer that fails leaves a note.
    """
    say(case.name, "finding the network, or training it where its recipe does")
    case = replace(case, recipe=kept.trained(case.recipe))
    data = find_data(load_recipe(case.recipe).recipe.data)
    test = data.test if effort.images is None else data.test.head(effort.images)
    name = case.name if len(test) == len(data.test) else f"{case.name} (first {len(test):,})"
    say(name, f"{len(test):,} test samples")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        draws = _write(calibration_draws(data, effort.draws, case.samples), Path(folder))
        systems = _systems(case, name, draws, results, kept)
    if case.note:
        results.notes.append(f"{name}: {case.note}")
    scores = {}
    for system in systems:
        say(name, f"scoring {system.name}")
        right = [kept.correct(path, row, case.recipe, test, data.digest) for path, row in system.files]
        scores[system.name] = np.stack(right)
    _add_rows(results, name, systems, scores, _launches(systems, name, effort, results))


def calibration_draws(data: LoadedData, count: int, samples: int | None = None) -> list[Samples]:
    """The calibration split, or its first `samples`, then further draws of that size.

    With a training split they are its next runs of samples, else drawn from the calibration split with replacement.
    """
    first, train = data.splits.calibration, data.splits.train
    size = len(first) if samples is None else min(samples, len(first))
    draws = [first.head(size)]
    generator = torch.Generator().manual_seed(_SEED)
    for index in range(1, count):
        if train is not None:
            run = slice(index * size, (index + 1) * size)
            draws.append(Samples((train.inputs[0][run],), train.labels[run]))
        else:
            drawn = torch.randint(len(first), (size,), generator=generator)
            draws.append(Samples((first.inputs[0][drawn],), first.labels[drawn]))
    return draws


def say(case: str, what: str) -> None:
    print(f"{case}: {what}", file=sys.stderr, flush=True)


def _write(draws: Sequence[Samples], folder: Path) -> list[Path]:
    paths = []
    for index, draw in enumerate(draws):
        paths.append(folder / f"draw-{index}.npz")
        np.savez(paths[-1], inputs=draw.inputs[0].numpy(), labels=draw.labels.numpy())
    return paths


def _systems(case: Case, name: str, draws: Sequence[Path], results: Results, kept: Kept) -> list[System]:
    """The float network first, edgekit second."""

    def made(
        system: str, draw: Path, reference: Made | None, steps: tuple[Mapping[str, Mapping[str, object]], ...] = ()
    ) -> Made:
        source = str(reference.path.parent) if reference else None
        return kept.make(Job(system, case.recipe, case.format, steps, str(draw), source, ""), reference)

    say(name, "exporting the float network")
    reference = made(FLOAT, draws[0], None)
    systems = [System(f"float {case.format}", ((reference.path, reference.row),), reference)]
    own = {EDGEKIT: case.steps}
    if case.nearest:
        own[NEAREST] = _plainly(case)
    for system, steps in own.items():
        say(name, f"quantising with {system}")
        files = [made(system, draw, None, steps) for draw in draws]
        results.notes += _raised(name, system, files[0].row)
        systems.append(System(system, tuple((file.path, file.row) for file in files), files[0]))
    for peer in case.peers:
        say(name, f"quantising with {peer}")
        try:
            files = [made(peer, draw, reference) for draw in draws]
        except DataError as err:
            results.notes.append(f"{name}: no rows of {peer}: {err.what}")
            continue
        systems.append(System(peer, tuple((file.path, file.row) for file in files), files[0]))
    if case.published:
        path = Path(os.environ["EDGEKIT_DATA"]) / "weights" / case.published
        row = reference.row
        described = tflite_row(path, row.inputs[0].network_name, row.outputs[0].network_name)
        systems.append(System(PUBLISHED, ((path, described),), None))
    return systems


def _raised(name: str, system: str, row: ArtifactRow) -> list[str]:
    """What a network with weights of fewer than 8 bits has in more."""
    bits = [tensor.bits for tensor in row.quantisation if tensor.role == "weight"]
    kept = {layer.node for layer in row.in_float if "kept" in layer.reason}
    if min(bits, default=8) == 8 or not (max(bits) == 8 or kept):
        return []
    return [
        f"{name}, {system}: {bits.count(8)} of {len(bits)} coded weights have 8 bits, {len(kept)} layers are in float."
    ]


def _plainly(case: Case) -> Steps:
    """The case's quantise step alone, with plain ranges and rounding."""
    options = [options for step in case.steps for name, options in step.items() if name == "quantize"]
    return tuple({"quantize": {**one, **PLAIN}} for one in options)


def _launches(systems: Sequence[System], case: str, effort: Effort, results: Results) -> list[dict[str, Profile]]:
    """Profiles by system of each launch in which all were valid; up to twice as many launches are tried.

    The systems' order is turned by one each time. Without enough valid launches there are none, and a note.
    """
    valid: list[dict[str, Profile]] = []
    reasons: set[str] = set()
    tried = 0
    while len(valid) < effort.launches and tried < 2 * effort.launches:
        turn = tried % len(systems)
        order = [*systems[turn:], *systems[:turn]]
        tried += 1
        say(case, f"timing, launch {tried}, {len(valid)} valid so far")
        artifacts = [(path, row, _runtime(path)) for path, row in (system.files[0] for system in order)]
        profiles = profile_interleaved(Device(name="local", target=TARGET), artifacts, effort.settings)
        if all(profile.valid for profile in profiles):
            valid.append({system.name: profile for system, profile in zip(order, profiles, strict=True)})
        reasons |= {reason for profile in profiles for reason in profile.reasons}
    if tried > len(valid):
        said = f"{case}: {tried - len(valid)} of {tried} launches are not valid ({', '.join(sorted(reasons))})"
        left_out = len(valid) < FEWEST_LAUNCHES
        results.notes.append(said + (": no rows of latency." if left_out else " and left out."))
    return valid if len(valid) >= FEWEST_LAUNCHES else []


def _add_rows(
    results: Results,
    case: str,
    systems: Sequence[System],
    scores: Mapping[str, NDArray[np.float64]],
    launches: Sequence[Mapping[str, Profile]],
) -> None:
    for system in systems:
        results.add(case, system.name, "top1", float(scores[system.name].mean()), "share")
        if len(scores[system.name]) > 1:
            results.add(case, system.name, "top1, first draw", float(scores[system.name][0].mean()), "share")
        results.add(case, system.name, "size_kb", system.files[0][1].size_bytes / 1000, "KB")
        if launches:
            medians = [profiles[system.name].summary.p50_ms for profiles in launches]
            results.add(case, system.name, "latency_ms", float(np.median(medians)), "ms")
        if system.made is not None:
            if not system.name.startswith(FLOAT):
                results.add(case, system.name, "quantise_s", system.made.quantise_s, "s")
            results.add(case, system.name, "export_s", system.made.export_s, "s")
            results.add(case, system.name, "peak_rss_mb", system.made.peak_rss_mb, "MB")
    floating, ours = systems[0], systems[1]
    for system in systems[1:]:
        _add_comparison(results, case, system, floating, "float", scores, launches)
    for peer in systems[2:]:
        _add_comparison(results, case, ours, peer, peer.name, scores, launches)


def _add_comparison(
    results: Results,
    case: str,
    system: System,
    other: System,
    label: str,
    scores: Mapping[str, NDArray[np.float64]],
    launches: Sequence[Mapping[str, Profile]],
) -> None:
    """Rows of `system` that hold it against `other`: difference in top-1, times the speed, times the quantising."""
    difference = paired_difference(scores[system.name], scores[other.name])
    results.add_interval(case, system.name, f"top1 minus {label}", difference, "share")
    if launches:
        medians = [(one[other.name].summary.p50_ms, one[system.name].summary.p50_ms) for one in launches]
        speed = mean_ratio([theirs / own for theirs, own in medians])
        results.add_interval(case, system.name, f"speed over {label}", speed, "factor")


def _runtime(path: Path) -> str:
    return {".onnx": "onnxruntime", ".tflite": "litert"}[path.suffix]


if __name__ == "__main__":
    raise SystemExit(main())
