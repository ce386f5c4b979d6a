"""int8 after training: edgekit beside other quantisers and published int8 files, on published networks and real data.

    EDGEKIT_DATA=<folder> python benchmarks/post_training.py [--quick] [--cases NAME ...] [--json F] [--markdown F]

METHOD says how. A lost row is printed like a won one.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from cases import CASES, Case
from numpy.typing import NDArray
from peers import File, tflite_row
from rows import (
    Page,
    Results,
    cpu_flags,
    describe_machine,
    describe_versions,
    mean_ratio,
    paired_difference,
    write_json,
    write_markdown,
)

from edgekit.data.metrics import top1
from edgekit.data.samples import Samples
from edgekit.data.splits import LoadedData, find_data
from edgekit.errors import EdgekitError, PassError
from edgekit.formats.artifact import Artifact
from edgekit.formats.conventions.convention import find_convention
from edgekit.formats.conventions.lowering import lower
from edgekit.formats.table import export
from edgekit.nets.load import build
from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.passes.table import run_pass
from edgekit.profiling.jobs import infer, profile_interleaved
from edgekit.schema.device import Device
from edgekit.schema.load import load_recipe, load_target
from edgekit.schema.pass_options import parse_options
from edgekit.schema.profile import MeasureSettings, Profile
from edgekit.schema.recipe import Export, Recipe

METHOD = """\
Every network is published, with its weights, by others; the data are real. All systems of a case quantise the same
float network with the same calibration samples, but the published files, which are taken as they are.

- *top1*: every image of the test split, batch 1, in the runtime that the file is for; the mean of three calibration
  draws. The first draw is the calibration split that `edgekit build` uses and is shown on its own too; the others are
  the next runs of training samples, or, where there is no training split, drawn from the calibration split with
  replacement. Differences are paired by image; an interval that holds 0 shows no difference.
- *size*: the file of the first draw.
- *latency*: batch 1, one thread, on this machine by the rules of [measuring.md](measuring.md). One and the same file
  differs by about 2 % from process to process, so each case is measured in several launches, every system in a new
  process each time; within a launch they take turns in rounds, so that other load hits them alike. Shown is the median
  of the launches' medians. *speed over* is the latency of the other over that of the column's system, above 1 is
  faster: the geometric mean over the launches, with Student's interval."""
EDGEKIT = "edgekit"
PUBLISHED = "MLPerf Tiny published"
LIBRARIES = ("torch", "onnx", "onnxruntime", "litert-torch", "ai-edge-litert", "ai-edge-quantizer", "numpy")
TARGET = "cpu-x86-64"
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


FULL = Effort(None, 3, 8, MeasureSettings(duration_s=2.0, percentile=90.0))
QUICK = Effort(QUICK_IMAGES, 1, 3, MeasureSettings(duration_s=1.0, percentile=90.0))


@dataclass(frozen=True)
class System:
    """One system's files, one per calibration draw, the product's own draw first."""

    name: str
    files: tuple[File, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"first {QUICK_IMAGES:,} images, one draw, short timings")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="only cases whose name contains one of these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows, case by case")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page of tables, case by case")
    given = parser.parse_args(arguments)
    chosen = [case for case in CASES if given.cases is None or any(part in case.name for part in given.cases)]
    if not chosen:
        parser.error(f"no such case; cases: {', '.join(case.name for case in CASES)}")
    torch.set_num_threads(1)
    results, machine, versions = Results(), describe_machine(), describe_versions(LIBRARIES)
    command = shlex.join(["python", "benchmarks/post_training.py", *(sys.argv[1:] if arguments is None else arguments)])
    page = Page("Benchmarks: int8 after training", METHOD, command)
    try:
        for case in chosen:
            with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
                run_case(case, QUICK if given.quick else FULL, results, Path(folder))
            if given.json:
                write_json(given.json, results, machine, versions)
            if given.markdown:
                write_markdown(given.markdown, page, results, machine, versions)
    except EdgekitError as err:
        print(err, file=sys.stderr)
        return 1
    return 0


def run_case(case: Case, effort: Effort, results: Results, folder: Path) -> None:
    """Make, score and time every system of a case; add its rows.

    Raises:
        EdgekitError: our own side failed. A peer that fails leaves a note.
    """
    recipe = load_recipe(case.recipe).recipe
    model, data = build(recipe.model, recipe.seed), find_data(recipe.data)
    test = data.test if effort.images is None else data.test.head(effort.images)
    name = case.name if len(test) == len(data.test) else f"{case.name} (first {len(test):,})"
    say(name, f"{len(test):,} test samples")
    draws = calibration_draws(data, effort.draws)
    reference = export(model, case.format, local_convention(case.format), folder, "float", Export())
    floating = System(f"float {case.format}", (File(reference.path, reference.row),))
    systems = [floating, _ours(case, recipe, model, data, draws, folder)]
    for peer, quantiser in case.quantisers.items():
        say(name, f"quantising with {peer}")
        try:
            made = [
                quantiser(reference, draw.inputs.numpy(), folder / f"{len(systems)}-{index}{reference.path.suffix}")
                for index, draw in enumerate(draws)
            ]
        except Exception as err:  # a foreign library may raise anything, its absence included
            results.notes.append(f"{name}: no rows of {peer}: {type(err).__name__}: {err}")
            continue
        systems.append(System(peer, tuple(made)))
    if case.published:
        systems.append(System(PUBLISHED, (_published(case.published, reference),)))
    if case.note:
        results.notes.append(f"{name}: {case.note}")
    scores = {system.name: _scores(system, name, recipe, test) for system in systems}
    _add_rows(results, name, systems, scores, _launches(systems, name, effort, results))


def calibration_draws(data: LoadedData, count: int) -> list[Samples]:
    """The calibration split as it is, then further draws of its size.

    With a training split they are its next runs of samples, else drawn from the calibration split with replacement.
    """
    first, train = data.splits.calibration, data.splits.train
    size, draws = len(first), [data.splits.calibration]
    generator = torch.Generator().manual_seed(_SEED)
    for index in range(1, count):
        if train is not None:
            run = slice(index * size, (index + 1) * size)
            draws.append(Samples(train.inputs[run], train.labels[run]))
        else:
            drawn = torch.randint(size, (size,), generator=generator)
            draws.append(Samples(first.inputs[drawn], first.labels[drawn]))
    return draws


def local_convention(format_name: str) -> str:
    """The convention that this machine's own runtime wants."""
    if format_name == "tflite":
        return "litert"
    if platform.machine() in {"aarch64", "arm64"}:
        return "onnxruntime-arm"
    return "onnxruntime-x86-vnni" if cpu_flags() & {"avx512_vnni", "avx_vnni"} else "onnxruntime-x86"


def say(case: str, what: str) -> None:
    print(f"{case}: {what}", file=sys.stderr, flush=True)


def _ours(case: Case, recipe: Recipe, model: Model, data: LoadedData, draws: Sequence[Samples], folder: Path) -> System:
    say(case.name, f"quantising with {EDGEKIT}")
    files = []
    for index, draw in enumerate(draws):
        context = Context(
            target=load_target(TARGET).target,
            splits=replace(data.splits, calibration=draw),
            metric=top1,
            teacher=_no_teacher,
            measure=lambda _: None,
            lower=lambda made, batch: lower(made, find_convention(local_convention(case.format)), batch).module,
            seed=recipe.seed,
            progress=lambda done, total, note="": None,
            folder=folder,
        )
        made = model
        for step in recipe.steps:
            made = run_pass(step.name, made, parse_options(step, f"recipe {recipe.name}"), context)
        artifact = export(made, case.format, local_convention(case.format), folder, f"edgekit-{index}", Export())
        files.append(File(artifact.path, artifact.row))
    return System(EDGEKIT, tuple(files))


def _no_teacher() -> Model:
    raise PassError("no teacher is trained here", "benchmarks/post_training.py", "name a recipe that only quantises")


def _published(name: str, reference: Artifact) -> File:
    path = Path(os.environ["EDGEKIT_DATA"]) / "weights" / name
    row = reference.row
    return File(path, tflite_row(path, row.inputs[0].network_name, row.outputs[0].network_name))


def _scores(system: System, case: str, recipe: Recipe, test: Samples) -> NDArray[np.float64]:
    """(draws, N): 1 where the largest output is the label."""
    say(case, f"scoring {system.name}")
    spec, labels = recipe.model.inputs[0], test.labels.numpy()
    scored = []
    for file in system.files:
        given = infer(
            _device(),
            file.path,
            file.row,
            _runtime(file),
            {spec.name: test.inputs.numpy()},
            {spec.name: spec.layout},
        )
        scored.append(given.outputs[file.row.outputs[0].network_name].argmax(1) == labels)
    return np.stack(scored).astype(np.float64)


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
        artifacts = [(system.files[0].path, system.files[0].row, _runtime(system.files[0])) for system in order]
        profiles = profile_interleaved(_device(), artifacts, effort.settings)
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
        results.add(case, system.name, "size", system.files[0].row.size_bytes / 1000, "KB")
        if launches:
            medians = [profiles[system.name].summary.p50_ms for profiles in launches]
            results.add(case, system.name, "latency", float(np.median(medians)), "ms")
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
    """Rows of `system` that hold it against `other`: difference in top-1, share of the size, times the speed."""
    difference = paired_difference(scores[system.name], scores[other.name])
    results.add_interval(case, system.name, f"top1 minus {label}", difference, "share")
    size = system.files[0].row.size_bytes / other.files[0].row.size_bytes
    results.add(case, system.name, f"size over {label}", size, "factor")
    if launches:
        medians = [(one[other.name].summary.p50_ms, one[system.name].summary.p50_ms) for one in launches]
        speed = mean_ratio([theirs / own for theirs, own in medians])
        results.add_interval(case, system.name, f"speed over {label}", speed, "factor")


def _runtime(file: File) -> str:
    return {".onnx": "onnxruntime", ".tflite": "litert"}[file.path.suffix]


def _device() -> Device:
    return Device(name="local", target=TARGET)


if __name__ == "__main__":
    raise SystemExit(main())
