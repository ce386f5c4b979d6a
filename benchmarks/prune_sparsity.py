"""What zeros cost and what they are worth: `python benchmarks/prune_sparsity.py [--quick] [--json FILE]`.

The published ResNet-8 of MLPerf Tiny goes on training on CIFAR-10, every system for the same epochs: dense; with zeros
that come along the cubic ramp, in each layer or ranked over all; with the same share of zeros from the first step on;
and in NVIDIA's 2:4 pattern. Trainings leave checkpoints, so a run that was stopped goes on. What is judged, weighed and
timed is the exported float32 ONNX file: `zipped` is the file after zlib, `speedup_ms` the dense file's p50 in ONNX
Runtime over its own, both in one run. Dense kernels multiply by zeros too, so 1.0 is what to expect.

Beside it, the quickstart's network on digits is pruned by magnitude and judged without recovery: after a training as
usual, and after one that presses whole channels towards zero.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import local_convention
from rows import Interval, Results, describe_machine, describe_versions, paired_difference, write_json
from surroundings import TARGET, context_of

from edgekit.data.samples import Samples
from edgekit.data.splits import find_data
from edgekit.formats.artifact import Artifact
from edgekit.formats.onnx.zeros import stored_weights
from edgekit.formats.table import export
from edgekit.nets.load import build
from edgekit.passes.prune.prune import prune
from edgekit.passes.train import train
from edgekit.pipeline.evaluate import network_metric
from edgekit.profiling.compare import compare
from edgekit.profiling.inference import infer
from edgekit.profiling.jobs import profile_interleaved
from edgekit.schema.device import Device
from edgekit.schema.load import load_recipe
from edgekit.schema.profile import MeasureSettings
from edgekit.schema.prune import PruneBudget, PruneOptions
from edgekit.schema.recipe import Export
from edgekit.schema.train import TrainOptions

RECIPE = "resnet8-mlperf"
HERE = Device(name="local", target=TARGET)
DENSE = ("resnet-8 dense", "dense")
SYSTEMS: Mapping[tuple[str, str], Mapping[str, Any] | None] = {
    DENSE: None,
    **{
        (f"resnet-8 {share:.0%} zeros", system): {**options, "final": share}
        for share in (0.5, 0.8, 0.9)
        for system, options in {"gradual": {}, "at once": {"method": "one_shot"}}.items()
    },
    ("resnet-8 90% zeros", "gradual, over all layers"): {"scope": "global", "final": 0.9},
    ("resnet-8 50% zeros", "2:4, gradual"): {"pattern": "2:4"},
    ("resnet-8 50% zeros", "2:4, at once"): {"pattern": "2:4", "method": "one_shot"},
}
CUT = "repvgg digits, 0.4 of its MACs"
PRUNED: Mapping[str, Mapping[str, Any] | None] = {"dense": None, "group sparsity": {"weight": 0.01}}
QUICK = (DENSE, ("resnet-8 80% zeros", "gradual"), ("resnet-8 50% zeros", "2:4, at once"))
_LIBRARIES = ("torch", "onnx", "onnxruntime", "numpy")


def rows(results: Results, quick: bool, root: Path = Path(".edgekit/benchmarks")) -> None:
    """Top-1 with its paired difference to the dense network, zeros, bytes and milliseconds of every system."""
    torch.set_num_threads(1)
    _group_sparsity(results, root)
    recipe = load_recipe(RECIPE).recipe
    data = find_data(recipe.data)
    images, epochs, test = (3000, 2, data.test.head(1000)) if quick else (14000, 2, data.test)
    model, whole = build(recipe.model, recipe.seed), data.splits
    assert whole.train is not None
    splits = replace(whole, train=whole.train.head(images))
    layout = recipe.model.inputs[0].layout
    common = {"epochs": epochs, "optimizer": "adamw", "learning_rate": 1e-3, "augment": ["flip", "shift"]}
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        folder = Path(name)
        made: dict[tuple[str, str], tuple[Artifact, np.ndarray[Any, np.dtype[np.bool_]]]] = {}
        for number, (system, sparsity) in enumerate(SYSTEMS.items()):
            if quick and system not in QUICK:
                continue
            print(", ".join(system), file=sys.stderr, flush=True)
            options = TrainOptions.model_validate({**common, "sparsity": sparsity})
            context = context_of(splits, folder=root / "sparsity" / f"{number}{'-quick' * quick}")
            artifact = export(
                train(model, options, context),
                "onnx",
                local_convention("onnx"),
                folder,
                f"model{number}",
                Export(batch=1),
            )
            made[system] = (artifact, _right(artifact, test, layout))
        dense, right_dense = made[DENSE]
        for system, (artifact, right) in made.items():
            _weigh(system, artifact, results)
            results.add(*system, "top1", float(right.mean()), "share")
            if system != DENSE:
                results.add_interval(*system, "top1 to dense", paired_difference(right, right_dense), "share")
                _time(system, dense, artifact, results, quick=quick)


def _group_sparsity(results: Results, root: Path) -> None:
    """The network of the quickstart, trained both ways and then cut; the test split before any recovery."""
    recipe = load_recipe("quickstart").recipe
    data, model = find_data(recipe.data), build(recipe.model, recipe.seed)
    for system, pressed in PRUNED.items():
        print(f"{CUT}, {system}", file=sys.stderr, flush=True)
        context = context_of(data.splits, folder=root / "group-sparsity" / system.replace(" ", "-"))
        options = TrainOptions.model_validate(
            {"epochs": 12, "augment": ["shift"], "shift_pixels": 1, "group_sparsity": pressed}
        )
        trained = train(model, options, context)
        cut = prune(trained, PruneOptions(budget=PruneBudget(macs_ratio=0.4)), context)
        for metric, network in (("top1_unpruned", trained), ("top1_before_recovery", cut)):
            results.add(CUT, system, metric, network_metric(network, data.test, context.score)[0], "share")


def _right(artifact: Artifact, test: Samples, layout: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    name = artifact.row.inputs[0].network_name
    feeds = {name: test.inputs[0].numpy()}
    (outputs,) = infer(HERE, artifact.path, artifact.row, "onnxruntime", feeds, {name: layout}).outputs.values()
    right: np.ndarray[Any, np.dtype[np.bool_]] = outputs.argmax(1) == test.labels.numpy()
    return right


def _weigh(system: tuple[str, str], artifact: Artifact, results: Results) -> None:
    weights = stored_weights(artifact.path)
    zeros = sum(weight.zeros for weight in weights) / sum(weight.count for weight in weights)
    results.add(*system, "zeros", zeros, "share")
    results.add(*system, "size", artifact.row.size_bytes / 1000, "KB")
    results.add(*system, "zipped", len(zlib.compress(artifact.path.read_bytes(), 6)) / 1000, "KB")


def _time(system: tuple[str, str], dense: Artifact, sparse: Artifact, results: Results, *, quick: bool) -> None:
    settings = MeasureSettings(duration_s=0.5 if quick else 2.0, percentile=90.0)
    files = [(artifact.path, artifact.row, "onnxruntime") for artifact in (dense, sparse)]
    before, after = profile_interleaved(HERE, files, settings)
    if not (before.valid and after.valid):
        reasons = ", ".join(sorted({*before.reasons, *after.reasons}))
        results.notes.append(f"{', '.join(system)}: milliseconds are left out, {reasons}.")
        return
    found = compare(before, after)
    results.add_interval(*system, "speedup_ms", Interval(found.speedup, found.low, found.high), "factor")


def main() -> int:
    """Run all of it, print the table, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three systems, two epochs on 3,000 images")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--store", type=Path, default=Path(".edgekit/benchmarks"), help="folder for checkpoints")
    arguments = parser.parse_args()
    results = Results()
    rows(results, arguments.quick, arguments.store)
    for row in results.rows:
        print(f"{row.case}  {row.system:24} {row.metric:18} {row.value:.4f} {row.unit}")
    print(*results.notes, sep="\n")
    if arguments.json is not None:
        write_json(arguments.json, results, describe_machine(), describe_versions(_LIBRARIES))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
