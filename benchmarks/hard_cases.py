"""Hard cases: networks with channels scaled by 50 and 1/50, of the same float function, quantised to 8 bits.

    EDGEKIT_DATA=<folder> python benchmarks/hard_cases.py [--quick] [--cases NAME ...] [--json F]

Every file is scored in ONNX Runtime on the first test samples. `edgekit, min-max and nearest` is what any quantiser
does without equalisation; `edgekit` runs `equalise` before `quantize`. The network as published stands beside its hard
forms, so that it shows what equalisation costs where it is not needed. *logit noise* is the mean squared difference of
the logits to the float network's, over the mean square of those, on the selection split.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cases import EDGEKIT, NEAREST
from harden import KINDS, harden
from machine import local_convention
from numpy.typing import NDArray
from rows import Results, describe_machine, describe_versions, paired_difference, write_json
from surroundings import TARGET, context_of

from edgekit.data.samples import Samples
from edgekit.data.splits import find_data
from edgekit.errors import EdgekitError
from edgekit.formats.table import export
from edgekit.nets.load import build
from edgekit.nets.model import Model
from edgekit.passes.table import run_pass
from edgekit.profiling.inference import infer
from edgekit.schema.device import Device
from edgekit.schema.load import load_recipe
from edgekit.schema.pass_options import parse_options
from edgekit.schema.recipe import Export, Recipe, Step

AS_PUBLISHED = "as published"
LIBRARIES = ("torch", "onnx", "onnxruntime", "numpy")
_PLAIN = {"observer": "min-max", "bias_correction": "none"}
SYSTEMS: Mapping[str, tuple[Step, ...]] = {
    NEAREST: (Step(name="quantize", options=_PLAIN),),
    "edgekit, without equalise": (Step(name="quantize"),),
    EDGEKIT: (Step(name="equalise"), Step(name="quantize")),
}


@dataclass(frozen=True)
class Case:
    """One network: its name here, and its recipe."""

    name: str
    recipe: str


CASES = (
    Case("resnet-20", "resnet20-cifar10"),
    Case("ds-cnn", "ds-cnn-mlperf"),
    Case("resnet-8", "resnet8-mlperf"),
    Case("vit-d6", "vit-cifar10"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="500 test samples instead of 2,000")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="only cases whose name contains one of these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows, case by case")
    given = parser.parse_args(arguments)
    chosen = [case for case in CASES if given.cases is None or any(part in case.name for part in given.cases)]
    if not chosen:
        parser.error(f"no such case; cases: {', '.join(case.name for case in CASES)}")
    torch.set_num_threads(1)
    results, machine, versions = Results(), describe_machine(), describe_versions(LIBRARIES)
    try:
        for case in chosen:
            run_case(case, 500 if given.quick else 2000, results)
            if given.json:
                write_json(given.json, results, machine, versions)
    except EdgekitError as err:
        print(err, file=sys.stderr)
        return 1
    return 0


def run_case(case: Case, samples: int, results: Results) -> None:
    """Rows of a network as published, and of each hard form of it."""
    recipe = load_recipe(case.recipe).recipe
    model, data = build(recipe.model, recipe.seed), find_data(recipe.data)
    test = data.test.head(samples)
    assert data.splits.selection is not None
    selection = data.splits.selection.head(samples)
    for kind in (AS_PUBLISHED, *KINDS):
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            context = context_of(data.splits, seed=recipe.seed, folder=Path(folder))
            network = model if kind == AS_PUBLISHED else harden(model, kind, context)
            name = f"{case.name} w8a8 {kind}"
            wanted, signal = _scored(network, recipe, test, selection, "float", Path(folder))
            own = wanted.argmax(1) == test.labels.numpy()
            results.add(name, "float onnx", "top1", float(own.mean()), "share")
            for index, (system, steps) in enumerate(SYSTEMS.items()):
                made = network
                for step in steps:
                    made = run_pass(step.name, made, parse_options(step, f"case {name}"), context)
                outputs, found = _scored(made, recipe, test, selection, f"edgekit-{index}", Path(folder))
                right = outputs.argmax(1) == test.labels.numpy()
                noise = float(np.square(found - signal).mean() / np.square(signal).mean())
                results.add(name, system, "top1", float(right.mean()), "share")
                results.add_interval(name, system, "top1 minus float", paired_difference(right, own), "share")
                results.add(name, system, "logit noise", noise, "factor")
                print(
                    f"{name:34} {system:30} top-1 {right.mean():.4f} (float {own.mean():.4f}) noise {noise:.6f}",
                    flush=True,
                )


def _scored(
    model: Model, recipe: Recipe, test: Samples, selection: Samples, stem: str, folder: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Outputs in ONNX Runtime, (N, classes): of the test samples, and of the selection split."""
    artifact = export(model, "onnx", local_convention("onnx"), folder, stem, Export())
    spec = recipe.model.inputs[0]
    inputs = torch.cat((test.inputs[0], selection.inputs[0])).numpy()
    device = Device(name="local", target=TARGET)
    given = infer(device, artifact.path, artifact.row, "onnxruntime", {spec.name: inputs}, {spec.name: spec.layout})
    outputs = given.outputs[artifact.row.outputs[0].network_name]
    return outputs[: len(test)], outputs[len(test) :]


if __name__ == "__main__":
    raise SystemExit(main())
