"""Pruning at a budget, before and after the same recovery: `python benchmarks/prune.py [--quick] [--json FILE]`.

The published ResNet-56 loses half its multiply-accumulates, and then three fifths, by our search, by AutoBot, and by
torch-pruning's magnitude as its first example has it. Each network is recovered alike: distillation from the published
one for three epochs. `macs_ratio` is how many times fewer multiply-accumulates are left. Accuracy is of the network, on
the whole test split; `speedup_ms` is the p50 of the published network's float32 ONNX over the pruned one's, in ONNX
Runtime, both in one run. A network is made once and kept.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_pruning
from machine import local_convention
from numpy.typing import NDArray
from rows import Interval, Results, describe_machine, describe_versions, paired_difference, write_json
from surroundings import TARGET, context_of

from edgekit.data.samples import in_batches
from edgekit.data.splits import find_data
from edgekit.formats.table import export
from edgekit.nets.count import count_macs
from edgekit.nets.load import build
from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.passes.recalibrate import recalibrate_norms
from edgekit.passes.table import PASSES, run_pass
from edgekit.pipeline.latency import measure_model
from edgekit.pipeline.sources import follow_loader
from edgekit.profiling.compare import compare
from edgekit.profiling.jobs import profile_interleaved
from edgekit.schema.device import Device
from edgekit.schema.load import load_recipe, load_target
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.pass_options import parse_options
from edgekit.schema.profile import MeasureSettings
from edgekit.schema.recipe import Export, Step
from edgekit.schema.recover import spell_out
from edgekit.store.steps import StepStore, step_key

RECIPE = "resnet56-cifar10"
HERE = Device(name="local", target=TARGET)
OURS, PEER = "edgekit", "torch-pruning magnitude"
_MACS = {"resnet-56 2.0x": 1 / 2.0, "resnet-56 2.5x": 1 / 2.5}
_RECOVER = {"epochs": 3, "augment": ["flip", "shift"]}
_LIBRARIES = ("torch", "torch-pruning", "onnx", "onnxruntime", "numpy")
_RATIOS = np.linspace(0.02, 0.9, 89)  # channel ratios that the peer is tried with


@dataclass(frozen=True)
class Job:
    """A network that one system prunes to one budget.

    Attributes:
        options: of our pass; None: the peer, to `macs_ratio`.
    """

    case: str
    system: str
    options: Mapping[str, Any] | None
    macs_ratio: float = 0.0


_METHODS: Mapping[str, Mapping[str, Any]] = {OURS: {}, "AutoBot": {"method": "autobot"}}
JOBS = (
    *(
        job
        for case, ratio in _MACS.items()
        for job in (
            *(Job(case, system, {"budget": {"macs_ratio": ratio}, **method}) for system, method in _METHODS.items()),
            Job(case, PEER, None, ratio),
        )
    ),
    Job("resnet-56 half the ms", OURS, {"budget": {"latency_ratio": 0.5}}),
)


@dataclass(frozen=True)
class Made:
    """What was kept of a network: whether each test sample's class is right, and the float32 ONNX after recovery."""

    before: NDArray[np.bool_]
    after: NDArray[np.bool_]
    macs: int
    file: Path
    row: ArtifactRow


class Bench:
    """The store, and what every job starts from."""

    def __init__(self, root: Path, *, quick: bool) -> None:
        self._store = StepStore(root / "steps")
        self._quick = quick
        self._data = find_data("cifar10")
        self._test = self._data.test.head(1000) if quick else self._data.test
        self.model = build(load_recipe(RECIPE).recipe.model, 0)
        self._versions = describe_versions(_LIBRARIES)

    def make(self, job: Job | None) -> Made:
        """A job's network, or the published one: found, or made and kept."""
        parts: Mapping[str, object] = {
            "benchmark": "prune",
            "job": job and [job.case, job.system, job.options, job.macs_ratio],
            "recover": _RECOVER,
            "quick": self._quick,
            "data": self._data.digest,
            "versions": self._versions,
            "code": [follow_loader(PASSES[name].load).digest for name in ("prune", "distill")] if job else [],
        }
        key = step_key(parts)
        folder = self._store.find(key) or self._store.put(key, lambda into: self._write(job, into, key), parts)
        with np.load(folder / "right.npz") as right:
            before, after = right["before"], right["after"]
        row = ArtifactRow.model_validate_json((folder / "row.json").read_text(encoding="utf-8"))
        macs = json.loads((folder / "macs.json").read_text(encoding="utf-8"))
        return Made(before, after, macs, folder / row.path, row)

    def _write(self, job: Job | None, folder: Path, key: str) -> None:
        pruned = recovered = self.model
        if job is not None:
            context = self._context(self._store.checkpoints(key))
            if job.options is None:
                pruned = torch_pruned(self.model, job.macs_ratio, context)
            else:
                fewer = {"autobot": {"steps": 10}} if self._quick and "method" in job.options else {}
                step = Step(name="prune", options={**job.options, **fewer})
                pruned = run_pass("prune", self.model, parse_options(step, job.case), context)
            epochs = {"epochs": 1} if self._quick else {}
            recover = spell_out((Step(name="prune", options={"recover": {**_RECOVER, **epochs}}),))[-1].step
            recovered = run_pass("distill", pruned, parse_options(recover, job.case), context)
        np.savez(folder / "right.npz", before=self._right(pruned), after=self._right(recovered))
        artifact = export(recovered, "onnx", local_convention("onnx"), folder, "model", Export())
        (folder / "row.json").write_text(artifact.row.model_dump_json(), encoding="utf-8")
        (folder / "macs.json").write_text(json.dumps(count_macs(recovered)), encoding="utf-8")

    def _context(self, folder: Path) -> Context:
        splits = self._data.splits
        assert splits.train is not None
        if self._quick:
            splits = replace(splits, train=splits.train.head(640))
        target = load_target(TARGET).target
        return replace(
            context_of(splits, folder=folder),
            teachers=lambda: (self.model,),
            measure=lambda model: measure_model(model, HERE, target, Export()),
        )

    def _right(self, model: Model) -> NDArray[np.bool_]:
        (inputs,), labels = self._test.inputs, self._test.labels
        with torch.no_grad():
            parts = [model.network(*batch).argmax(1) for batch in in_batches((inputs,), 250)]
        right: NDArray[np.bool_] = (torch.cat(parts) == labels).numpy()
        return right


def torch_pruned(model: Model, macs_ratio: float, context: Context) -> Model:
    """As the library's first example: group magnitude of squares, one ratio for all layers, the head left alone.

    The ratio is the least of a grid that meets the budget. Norms are estimated anew, as ours are.
    """
    whole = count_macs(model)
    for ratio in _RATIOS.tolist():
        pruned = model.with_(_cut(model, ratio), "torch-pruning")
        if count_macs(pruned) <= macs_ratio * whole:
            recalibrate_norms(pruned.network, context.splits.calibration)
            return pruned
    raise SystemExit(f"torch-pruning does not reach {macs_ratio:g} of the multiply-accumulates")


def _cut(model: Model, ratio: float) -> torch.nn.Module:
    network = copy.deepcopy(model.network).requires_grad_(True)
    torch_pruning.pruner.BasePruner(
        network,
        model.example(),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=[network.get_submodule("linear")],
        in_channel_groups={},
        out_channel_groups={},
        num_heads={},
    ).step()
    return network.eval()


def rows(results: Results, quick: bool, root: Path = Path(".edgekit/benchmarks")) -> None:
    """Every system's network at every budget, and ours against each of the others on the same images."""
    bench = Bench(root, quick=quick)
    whole = bench.make(None)
    results.add("resnet-56", "float published", "top1", float(whole.after.mean()), "share")
    made: dict[tuple[str, str], Made] = {}
    for job in JOBS[:3] if quick else JOBS:
        print(f"{job.case}: {job.system}", file=sys.stderr, flush=True)
        one = made[job.case, job.system] = bench.make(job)
        results.add(job.case, job.system, "top1_before_recovery", float(one.before.mean()), "share")
        results.add(job.case, job.system, "top1", float(one.after.mean()), "share")
        results.add(job.case, job.system, "macs_ratio", whole.macs / one.macs, "factor")
    for (case, system), one in made.items():
        if system == OURS:
            for (other_case, other), peer in made.items():
                if other_case == case and other != OURS:
                    difference = paired_difference(one.after, peer.after)
                    results.add_interval(case, OURS, f"top1 to {other}", difference, "share")
    _time(made, whole, results, quick=quick)


def _time(made: Mapping[tuple[str, str], Made], whole: Made, results: Results, *, quick: bool) -> None:
    settings = MeasureSettings(duration_s=0.5 if quick else 3.0, percentile=90.0)
    for (case, system), one in made.items():
        files = [(own.file, own.row, "onnxruntime") for own in (whole, one)]
        before, after = profile_interleaved(HERE, files, settings)
        found = compare(before, after)
        results.add_interval(case, system, "speedup_ms", Interval(found.speedup, found.low, found.high), "factor")
        if not (before.valid and after.valid):
            reasons = ", ".join(sorted({*before.reasons, *after.reasons}))
            results.notes.append(f"{case}, {system}: the milliseconds are not valid, {reasons}.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all of it, print the table, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer systems, one epoch on 640 images, 1,000 tests")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--store", type=Path, default=Path(".edgekit/benchmarks"), help="what was made is kept here")
    given = parser.parse_args(arguments)
    results = Results()
    rows(results, given.quick, given.store)
    for row in results.rows:
        print(f"{row.case}  {row.system:24} {row.metric:32} {row.value:.4f} {row.unit}")
    print(*results.notes, sep="\n")
    if given.json is not None:
        write_json(given.json, results, describe_machine(), describe_versions(_LIBRARIES))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
