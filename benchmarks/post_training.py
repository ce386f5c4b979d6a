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
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peers import File, Quantiser, ai_edge_quantizer, onnxruntime_static, tflite_row
from rows import (
    Interval,
    Page,
    Results,
    cpu_flags,
    describe_machine,
    describe_versions,
    paired_difference,
    write_json,
    write_markdown,
)

from edgekit.data.metrics import top1
from edgekit.data.samples import Samples
from edgekit.data.splits import LoadedData, find_data
from edgekit.errors import EdgekitError, PassError
from edgekit.formats.artifact import Artifact
from edgekit.formats.table import export
from edgekit.nets.load import build
from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.passes.table import run_pass
from edgekit.profiling.compare import compare
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
- *latency*: median at batch 1 and one thread. All systems of a case take turns in rounds of one run on this machine,
  so that other load hits them alike; the rules are those of [measuring.md](measuring.md). A ratio is the latency of the
  other over that of the column's system: above 1 is faster."""
EDGEKIT = "edgekit"
PUBLISHED = "MLPerf Tiny published"
LIBRARIES = ("torch", "onnx", "onnxruntime", "litert-torch", "ai-edge-litert", "ai-edge-quantizer", "numpy")
TARGET = "cpu-x86-64"
QUICK_IMAGES = 2_000
ATTEMPTS = 3  # at a latency that is not noisy
_SEED = 20240307


@dataclass(frozen=True)
class Case:
    """One network in one format.

    Attributes:
        quantisers: peers that are given the float network and the calibration samples.
        published: file of EDGEKIT_DATA/weights that is compared as it is.
        note: what a reader must know to compare fairly.
    """

    name: str
    recipe: str
    format: str
    quantisers: Mapping[str, Quantiser] = field(default_factory=dict)
    published: str | None = None
    note: str = ""


_SOFTMAX = "the published file ends in a softmax of its own, which is in its size and latency; ours gives logits."
_RELATIVE = "the images are probably training images of the network: int8 beside float, not an accuracy."
CASES = (
    Case("resnet-20 int8 onnx", "resnet20-cifar10", "onnx", {"ONNX Runtime quantize_static": onnxruntime_static}),
    Case("resnet-20 int8 tflite", "resnet20-cifar10", "tflite", {"ai-edge-quantizer": ai_edge_quantizer}),
    Case(
        "resnet-8 int8 tflite",
        "resnet8-mlperf",
        "tflite",
        {"ai-edge-quantizer": ai_edge_quantizer},
        published="mlperf_ic_resnet8_int8.tflite",
        note=_SOFTMAX,
    ),
    Case(
        "ds-cnn int8 tflite",
        "ds-cnn-mlperf",
        "tflite",
        {"ai-edge-quantizer": ai_edge_quantizer},
        published="mlperf_kws_dscnn_int8.tflite",
        note=_SOFTMAX,
    ),
    Case(
        "mobilenet-v1-0.25 int8 onnx",
        "mobilenet-v1-imagenet",
        "onnx",
        {"ONNX Runtime quantize_static": onnxruntime_static},
        note=_RELATIVE,
    ),
    Case(
        "mobilenet-v1-0.25 int8 tflite",
        "mobilenet-v1-imagenet",
        "tflite",
        {"ai-edge-quantizer": ai_edge_quantizer},
        note=_RELATIVE,
    ),
)


@dataclass(frozen=True)
class Effort:
    """How much is measured: test images, calibration draws, how latency is taken."""

    images: int | None
    draws: int
    settings: MeasureSettings


FULL = Effort(None, 3, MeasureSettings(duration_s=6.0))
QUICK = Effort(QUICK_IMAGES, 1, MeasureSettings(duration_s=2.0, percentile=90.0))


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
    profiles = _profiles(systems, name, effort.settings, results)
    _add_rows(results, name, systems, scores, profiles)


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


def _profiles(systems: Sequence[System], case: str, settings: MeasureSettings, results: Results) -> dict[str, Profile]:
    artifacts = [(system.files[0].path, system.files[0].row, _runtime(system.files[0])) for system in systems]
    for attempt in range(1, ATTEMPTS + 1):
        say(case, f"timing, attempt {attempt}")
        found = dict(
            zip((system.name for system in systems), profile_interleaved(_device(), artifacts, settings), strict=True)
        )
        invalid = {name: profile.reasons for name, profile in found.items() if not profile.valid}
        if not invalid:
            return found
    for name, reasons in invalid.items():
        results.notes.append(
            f"{case}: the latency of {name} is not valid after {ATTEMPTS} attempts: {', '.join(reasons)}"
        )
    return found


def _add_rows(
    results: Results,
    case: str,
    systems: Sequence[System],
    scores: Mapping[str, NDArray[np.float64]],
    profiles: Mapping[str, Profile],
) -> None:
    for system in systems:
        results.add(case, system.name, "top1", float(scores[system.name].mean()), "share")
        if len(scores[system.name]) > 1:
            results.add(case, system.name, "top1, first draw", float(scores[system.name][0].mean()), "share")
        results.add(case, system.name, "size", system.files[0].row.size_bytes / 1000, "KB")
        summary = profiles[system.name].summary
        latency = Interval(summary.p50_ms, summary.p50_low_ms, summary.p50_high_ms)
        results.add_interval(case, system.name, "latency", latency, "ms")
    floating, ours = systems[0], systems[1]
    for system in systems[1:]:
        _add_comparison(results, case, system, floating, "float", scores, profiles)
    for peer in systems[2:]:
        _add_comparison(results, case, ours, peer, peer.name, scores, profiles)


def _add_comparison(
    results: Results,
    case: str,
    system: System,
    other: System,
    label: str,
    scores: Mapping[str, NDArray[np.float64]],
    profiles: Mapping[str, Profile],
) -> None:
    """Rows of `system` that hold it against `other`: difference in top-1, share of the size, times the speed."""
    difference = paired_difference(scores[system.name], scores[other.name])
    results.add_interval(case, system.name, f"top1 minus {label}", difference, "share")
    size = system.files[0].row.size_bytes / other.files[0].row.size_bytes
    results.add(case, system.name, f"size over {label}", size, "factor")
    found = compare(profiles[other.name], profiles[system.name])
    speed = Interval(found.speedup, found.low, found.high)
    results.add_interval(case, system.name, f"speed over {label}", speed, "factor")


def _runtime(file: File) -> str:
    return {".onnx": "onnxruntime", ".tflite": "litert"}[file.path.suffix]


def _device() -> Device:
    return Device(name="local", target=TARGET)


if __name__ == "__main__":
    raise SystemExit(main())
