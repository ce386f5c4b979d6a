"""How much the choice of calibration samples matters to int8, and what ranges without data cost.

    EDGEKIT_DATA=<folder> python benchmarks/calibration.py [--quick] [--cases NAME ...] [--json F] [--markdown F]

METHOD says how.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from machine import local_convention
from numpy.typing import NDArray
from rows import Page, Results, describe_machine, describe_versions, write_json, write_markdown
from surroundings import TARGET, context_of

from edgekit.data.metrics import top1
from edgekit.data.observers import ChannelMean, Histogram, Seen, observe
from edgekit.data.samples import Samples
from edgekit.data.selection import choose_indices, with_range_guard
from edgekit.data.splits import LoadedData, find_data
from edgekit.errors import EdgekitError
from edgekit.formats.table import export
from edgekit.nets.load import build
from edgekit.nets.model import Model
from edgekit.nets.program import trace
from edgekit.passes.context import Context
from edgekit.passes.quantize.batches import batch_size
from edgekit.passes.quantize.calibrate import calibrate
from edgekit.passes.quantize.quantize import first_table, quantize
from edgekit.passes.quantize.select import look
from edgekit.passes.quantize.simulate import Simulation, simulate
from edgekit.profiling.inference import infer
from edgekit.schema.calibration import Choose
from edgekit.schema.device import Device
from edgekit.schema.load import load_recipe
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import Export

METHOD = """\
Published networks and weights, int8, the defaults of `quantize` but for the samples. The pool is the calibration split
of the shipped set.

- *error*: mean squared difference of the logits from those of the float network on the selection split, as a factor of
  the same with the whole pool; the mean over five seeds, and *spread*, its standard deviation. Simulated in PyTorch.
  Each image of the pool is run once; a choice adds up the histograms of its images.
- *top1*: on the selection split, mean and spread over the seeds. These are training images of the networks.
- *data-free*: ranges from 64 inputs made from batch-norm statistics. Top-1 of the ONNX file in ONNX Runtime."""
METHODS = ("random", "class-balanced", "k-centre", "dataset-quantization")
GUARDED = "dataset-quantization, range guard"
TEST_IMAGES = 2_000
_IMAGES, _BATCH = 500, 50  # of the selection split
LIBRARIES = ("torch", "numpy", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Case:
    """A network and how many images calibrate it."""

    name: str
    recipe: str
    counts: tuple[int, ...]


CASES = (
    Case("resnet-20 int8", "resnet20-cifar10", (32, 64, 256)),
    Case("mobilenet-v1-0.25 int8", "mobilenet-v1-imagenet", (32, 64, 128)),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two seeds, the smallest count, no data-free rows")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="only cases whose name contains one of these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows, case by case")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page of tables, case by case")
    given = parser.parse_args(arguments)
    chosen = [case for case in CASES if given.cases is None or any(part in case.name for part in given.cases)]
    if not chosen:
        parser.error(f"no such case; cases: {', '.join(case.name for case in CASES)}")
    torch.set_num_threads(1)
    results, machine, versions = Results(), describe_machine(), describe_versions(LIBRARIES)
    command = shlex.join(["python", "benchmarks/calibration.py", *(sys.argv[1:] if arguments is None else arguments)])
    page = Page("Benchmarks: calibration samples", METHOD, command)
    try:
        for case in chosen:
            data, model = _load(case)
            if given.quick:
                case = replace(case, counts=case.counts[:1])
            run_choices(case, model, data, 2 if given.quick else 5, results)
            if not given.quick and case is CASES[0]:
                run_data_free(case, model, data, results)
            if given.json:
                write_json(given.json, results, machine, versions)
            if given.markdown:
                write_markdown(given.markdown, page, results, machine, versions)
    except EdgekitError as err:
        print(err, file=sys.stderr)
        return 1
    return 0


def run_choices(case: Case, model: Model, data: LoadedData, seeds: int, results: Results) -> None:
    """Rows of every method with every count."""
    assert data.splits.selection is not None
    judged = data.splits.selection.head(min(_IMAGES, len(data.splits.selection)))
    pool, context, options = data.splits.calibration, context_of(data.splits), QuantizeOptions()
    say(case, "looking at the pool")
    features, magnitudes = look(model, pool, context)
    per_image = PerImage(model, pool, context)
    labels = pool.labels.numpy()
    program, small = trace(model, _BATCH), trace(model)
    with torch.no_grad():
        wanted = model.network(judged.inputs[0])

    def judge(indices: NDArray[np.int64]) -> tuple[float, float]:
        table = first_table(small, per_image.seen(indices), options)
        found = simulate(Simulation(program, table), judged.inputs[0], _BATCH)
        right = (found.argmax(1) == judged.labels).float().mean()
        return float((found - wanted).square().mean()), float(right)

    whole, whole_right = judge(np.arange(len(pool)))
    for count in case.counts:
        name = f"{case.name}, {count} of {len(pool):,} images"
        results.add(name, "whole pool", "error", 1.0, "factor")
        results.add(name, "whole pool", "top1", whole_right, "share")
        for method in (*METHODS, GUARDED):
            say(case, f"{count} images, {method}")
            found = []
            for seed in range(seeds):
                plain = Choose(method=method.partition(",")[0], count=count, seed=seed)
                indices = choose_indices(plain, features, labels)
                found.append(judge(with_range_guard(indices, magnitudes) if method == GUARDED else indices))
            errors, rights = np.array(found).T
            results.add(name, method, "error", float(errors.mean() / whole), "factor")
            results.add(name, method, "error, spread", float(errors.std(ddof=1) / whole), "factor")
            results.add(name, method, "top1", float(rights.mean()), "share")
            results.add(name, method, "top1, spread", float(rights.std(ddof=1)), "share")


class PerImage:
    """Histograms and means of every activation, image by image, on the grid of bins that the whole pool asks for."""

    def __init__(self, model: Model, pool: Samples, context: Context) -> None:
        whole = calibrate(model, trace(model, batch_size(pool.inputs)), pool, context)
        self._widths = {name: histogram.width for name, histogram in whole.histograms.items()}
        program = trace(model)
        self._images = []
        for index in range(len(pool)):
            seen = self._empty()
            observe(program, [(pool.inputs[0][index : index + 1],)], seen)
            for histogram in seen.histograms.values():
                histogram.counts = histogram.counts.astype(np.int32)  # half the memory
            self._images.append(seen)

    def seen(self, indices: NDArray[np.int64]) -> Seen:
        """What was seen of the images at `indices`, together."""
        seen = self._empty()
        chosen = [self._images[index] for index in indices]
        for name, histogram in seen.histograms.items():
            parts = [image.histograms[name] for image in chosen]
            histogram.low, histogram.high = min(part.low for part in parts), max(part.high for part in parts)
            for part in parts:
                histogram.counts += part.counts
        for name in chosen[0].means:
            means = torch.stack([image.means[name].mean for image in chosen])
            seen.means[name] = ChannelMean()
            seen.means[name].add(means, 1)  # every image has as many positions
        return seen

    def _empty(self) -> Seen:
        seen = Seen()
        for name, width in self._widths.items():
            seen.histograms[name] = Histogram()
            seen.histograms[name].width = width
        return seen


def run_data_free(case: Case, model: Model, data: LoadedData, results: Results) -> None:
    """Top-1 with ranges from made inputs, from as many real ones, and from the whole pool."""
    test = data.test.head(TEST_IMAGES)
    name = f"{case.name}, first {len(test):,} test images"
    with torch.no_grad():
        right = (model.network(test.inputs[0]).argmax(1) == test.labels).double().mean()
    results.add(name, "float", "top1", float(right), "share")
    systems = {
        "whole pool": QuantizeOptions(),
        "64 images": QuantizeOptions(samples=64),
        "data-free": QuantizeOptions(calibration="data-free"),
    }
    for system, options in systems.items():
        say(case, system)
        made = quantize(model, options, context_of(data.splits))
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            artifact = export(made, "onnx", local_convention("onnx"), Path(folder), "model", Export())
            spec = model.inputs[0]
            given = infer(
                Device(name="local", target=TARGET),
                artifact.path,
                artifact.row,
                "onnxruntime",
                {spec.name: test.inputs[0].numpy()},
                {spec.name: spec.layout},
            )
        outputs = given.outputs[artifact.row.outputs[0].network_name]
        results.add(name, system, "top1", top1(outputs, test.labels.numpy()), "share")


def say(case: Case, what: str) -> None:
    print(f"{case.name}: {what}", file=sys.stderr, flush=True)


def _load(case: Case) -> tuple[LoadedData, Model]:
    recipe = load_recipe(case.recipe).recipe
    return find_data(recipe.data), build(recipe.model, recipe.seed)


if __name__ == "__main__":
    raise SystemExit(main())
