"""Every quantisation scheme of one network side by side, in both formats: size, accuracy, latency, what runs it.

    EDGEKIT_DATA=<folder> python benchmarks/schemes.py [--quick] [--cases NAME ...] [--json F] [--markdown F]

METHOD says how. A scheme that is slower than float32 is printed like one that is faster.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from machine import local_convention
from numpy.typing import NDArray
from rows import Interval, Results, describe_machine, describe_versions, paired_difference, write_json
from surroundings import TARGET, context_of

from edgekit.data.samples import Samples
from edgekit.data.splits import find_data
from edgekit.errors import EdgekitError
from edgekit.formats.artifact import Artifact
from edgekit.formats.table import export
from edgekit.nets.load import build
from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.passes.quantize.quantize import quantize
from edgekit.profiling.inference import infer
from edgekit.profiling.jobs import profile_interleaved
from edgekit.schema.device import Device
from edgekit.schema.load import load_recipe
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.profile import MeasureSettings
from edgekit.schema.recipe import Export

METHOD = """\
One published network in every scheme that a format has, on this machine. Weights are rounded to nearest, biases take
back the mean shift of rounding; everything else is the default of `quantize`. *top-1* is of the first images of the
test split at batch 1, in the format's own runtime; *to float* its difference to the float32 file of the same format,
with the 95 % interval of pairs. *p50* is measured by the rules of [measuring.md](measuring.md), one thread, all
schemes of a table taking turns in one run; it is left out where the run is not valid. *computes with codes* names the
operators of the runtime's own graph that read narrow numbers, and *unfolded* counts the layers whose weights are
float32 again once the file is loaded: for them a scheme makes the file smaller and nothing else."""
LIBRARIES = ("torch", "onnx", "onnxruntime", "litert-torch", "ai-edge-litert", "numpy")
FLOAT = "float32"
HERE = Device(name="local", target=TARGET)
RUNTIMES = {"onnx": "onnxruntime", "tflite": "litert"}
_READ_CODES = (
    "MatMulNBits",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
    "MatMulInteger",
    "QLinearConv",
    "QGemm",
    "QLinearMatMul",
)


@dataclass(frozen=True)
class Case:
    """One network: its name here, and its recipe."""

    name: str
    recipe: str


CASES = (Case("resnet-20", "resnet20-cifar10"), Case("vit-d6", "vit-cifar10"))
SCHEMES: Mapping[str, QuantizeOptions | None] = {
    FLOAT: None,
    "int8": QuantizeOptions(),
    "int8, dynamic": QuantizeOptions(activations="dynamic"),
    "int4 in groups of 32, dynamic": QuantizeOptions(weights="int4", activations="dynamic", group_size=32),
    "int8 weights": QuantizeOptions(activations="float"),
    "int8 weights in groups of 32": QuantizeOptions(activations="float", group_size=32),
    "int4 weights": QuantizeOptions(weights="int4", activations="float"),
    "int4 weights in groups of 32": QuantizeOptions(weights="int4", activations="float", group_size=32),
    "fp16": QuantizeOptions(weights="fp16", activations="fp16"),
    "fp16 weights": QuantizeOptions(weights="fp16", activations="float"),
    "bf16 weights": QuantizeOptions(weights="bf16", activations="float"),
    "fp8_e4m3fn weights": QuantizeOptions(weights="fp8_e4m3fn", activations="float"),
    "e3m2 weights": QuantizeOptions(weights="e3m2", activations="float"),
}


@dataclass(frozen=True)
class Measured:
    """One file.

    Attributes:
        p50_ms: None where the run was not valid.
    """

    scheme: str
    artifact: Artifact
    top1: float
    to_float: Interval
    p50_ms: float | None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="500 images instead of 2,000, and short runs")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="only cases whose name contains one of these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows, case by case")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page of tables, case by case")
    given = parser.parse_args(arguments)
    cases = [(case, name) for case in CASES for name in RUNTIMES]
    cases = [
        pair
        for pair in cases
        if given.cases is None or any(part in " ".join((pair[0].name, pair[1])) for part in given.cases)
    ]
    if not cases:
        parser.error(f"no such case; cases: {', '.join(case.name for case in CASES)}, each with onnx and tflite")
    torch.set_num_threads(1)
    results, machine, versions = Results(), describe_machine(), describe_versions(LIBRARIES)
    command = shlex.join(["python", "benchmarks/schemes.py", *(sys.argv[1:] if arguments is None else arguments)])
    tables = []
    try:
        for case, name in cases:
            with tempfile.TemporaryDirectory() as folder:
                found = run_case(case, name, Path(folder), results, quick=given.quick)
            tables.append((f"{case.name}, {name}", table(found)))
            if given.json:
                write_json(given.json, results, machine, versions)
            if given.markdown:
                write_page(given.markdown, tables, command, machine, versions, results.notes)
    except EdgekitError as err:
        print(err, file=sys.stderr)
        return 1
    return 0


def run_case(case: Case, format_name: str, folder: Path, results: Results, *, quick: bool) -> list[Measured]:
    """Every scheme of one network in one format; one that the format does not have becomes a note."""
    recipe = load_recipe(case.recipe).recipe
    data = find_data(recipe.data)
    model, context = build(recipe.model, recipe.seed), context_of(data.splits)
    test = data.test.head(500 if quick else 2000)
    made: dict[str, tuple[Artifact, NDArray[np.bool_]]] = {}
    for scheme, options in SCHEMES.items():
        say(case, format_name, scheme)
        try:
            artifact = _export(model, context, options, format_name, folder, f"scheme{len(made)}")
        except EdgekitError as err:
            results.notes.append(f"{case.name}, {format_name}, {scheme}: {err.what}.")
            continue
        made[scheme] = (artifact, _judge(artifact, test, format_name, recipe.model.inputs[0].layout))
    latencies = _latencies([artifact for artifact, _ in made.values()], case, format_name, results, quick=quick)
    found = []
    for (scheme, (artifact, right)), latency in zip(made.items(), latencies, strict=True):
        difference = paired_difference(right, made[FLOAT][1])
        found.append(Measured(scheme, artifact, float(right.mean()), difference, latency))
        _add_rows(f"{case.name} {format_name} {scheme}", found[-1], results)
    return found


def _export(
    model: Model, context: Context, options: QuantizeOptions | None, format_name: str, folder: Path, stem: str
) -> Artifact:
    ready = model if options is None else quantize(model, options, context)
    return export(ready, format_name, local_convention(format_name), folder, stem, Export(batch=1))


def _judge(artifact: Artifact, test: Samples, format_name: str, layout: str) -> NDArray[np.bool_]:
    """(N,) whether each image is told right."""
    name = artifact.row.inputs[0].network_name
    given = infer(HERE, artifact.path, artifact.row, RUNTIMES[format_name], {name: test.inputs.numpy()}, {name: layout})
    (outputs,) = given.outputs.values()
    right: NDArray[np.bool_] = outputs.argmax(1) == test.labels.numpy()
    return right


def _latencies(
    artifacts: Sequence[Artifact], case: Case, format_name: str, results: Results, *, quick: bool
) -> list[float | None]:
    settings = MeasureSettings(duration_s=0.5 if quick else 2.0, percentile=90.0)
    files = [(artifact.path, artifact.row, RUNTIMES[format_name]) for artifact in artifacts]
    profiles = profile_interleaved(HERE, files, settings)
    reasons = sorted({reason for profile in profiles for reason in profile.reasons})
    if not all(profile.valid for profile in profiles):
        results.notes.append(f"{case.name}, {format_name}: latency is left out, {', '.join(reasons)}.")
        return [None] * len(profiles)
    return [profile.summary.p50_ms for profile in profiles]


def _add_rows(case: str, one: Measured, results: Results) -> None:
    results.add(case, "edgekit", "size_kb", one.artifact.row.size_bytes / 1000, "KB")
    results.add(case, "edgekit", "top1", one.top1, "share")
    results.add_interval(case, "edgekit", "top1 to float", one.to_float, "share")
    if one.p50_ms is not None:
        results.add(case, "edgekit", "latency_ms", one.p50_ms, "ms")


def table(found: Sequence[Measured]) -> str:
    """Schemes down."""
    heads = ("scheme", "KB", "top-1", "to float", "p50, ms", "computes with codes", "unfolded")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for one in found:
        row = one.artifact.row
        ends = f"[{one.to_float.low:+.4f}, {one.to_float.high:+.4f}]"
        latency = "" if one.p50_ms is None else f"{one.p50_ms:.3f}"
        kernels = ", ".join(f"{count} {name}" for name, count in row.fused.items() if name in _READ_CODES)
        unfolded = sum("turned into float32" in item.reason for item in row.in_float)
        lines.append(
            f"| {one.scheme} | {row.size_bytes / 1000:.1f} | {one.top1:.4f} | {one.to_float.value:+.4f} {ends} "
            f"| {latency} | {kernels or '-'} | {unfolded or '-'} |"
        )
    return "\n".join(lines)


def write_page(
    path: Path,
    tables: Sequence[tuple[str, str]],
    command: str,
    machine: Mapping[str, object],
    versions: Mapping[str, str],
    notes: Sequence[str],
) -> None:
    """A table for every network and format."""
    parts = ["# Benchmarks: schemes", METHOD, f"Made by `{command}`; every number is of that run."]
    parts.append(
        f"Machine: {machine['cpu']}, {machine['cores']} cores. Versions: "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + "."
    )
    for title, text in tables:
        parts += [f"## {title}", text]
    if notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in notes)]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def say(case: Case, format_name: str, what: str) -> None:
    print(f"{case.name}, {format_name}: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
