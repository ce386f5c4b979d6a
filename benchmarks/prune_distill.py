"""What a student learns from a teacher in the same time: `python benchmarks/prune_distill.py [--quick] [--json FILE]`.

Two cases, on images of CIFAR-10: ResNet-8 from its first weights, and ResNet-20 recovering from pruning. In each every
system trains the same network on the same images for the same epochs, with one seed for order and augmentation after
the other; `train` has the labels alone. The teacher is the published ResNet-20. A third, on digits: a chain of three
students, what it answers after each and where it leaves early, beside one student of its size. Finished runs are kept
by what they depend on, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import Results, describe_machine, describe_versions, write_json
from surroundings import context_of

from edgekit.data.samples import Splits
from edgekit.data.splits import LoadedData, find_data
from edgekit.nets.chain import Chain
from edgekit.nets.count import count_macs
from edgekit.nets.load import build
from edgekit.nets.model import Model
from edgekit.passes.table import PASSES, run_pass
from edgekit.pipeline.evaluate import network_metric
from edgekit.pipeline.sources import follow_loader, follow_modules
from edgekit.schema.load import load_recipe
from edgekit.schema.pass_options import parse_options
from edgekit.schema.recipe import ModelSource, Step
from edgekit.schema.recover import spell_out
from edgekit.schema.tensors import InputSpec
from edgekit.store.steps import StepStore, step_key

TEACHER = "resnet20-cifar10"
SEEDS = (0, 1, 2)
METHODS = ("kd", "dkd", "nkd", "uskd", "fitnets", "at", "rkd", "mgd", "meal")
# those published for CIFAR where a method has such
CIFAR = {
    "nkd": {"gamma": 3.5, "temperature": 3},
    "uskd": {"alpha": 0.1, "beta": 0.1, "mu": 0.1},
    "dkd": {"alpha": 1, "beta": 8, "temperature": 4},
}
_LIBRARIES = ("torch", "torch-pruning", "numpy")


@dataclass(frozen=True)
class Setting:
    """One case.

    Attributes:
        images: of the training split.
        pruned: the student is the teacher, cut to half its multiply-accumulates; else ResNet-8.
    """

    name: str
    images: int
    epochs: int
    test_images: int
    seeds: tuple[int, ...]
    methods: tuple[str, ...]
    learning_rate: float
    pruned: bool = False


FULL = (
    Setting("ResNet-8 from ResNet-20", 2000, 4, 5000, SEEDS, METHODS, 0.05),
    Setting("ResNet-20 pruned to half", 2000, 1, 5000, SEEDS, ("kd", "recover", "meal"), 0.01, pruned=True),
)
CHAIN_EPOCHS, QUICK_CHAIN_EPOCHS = 20, 2
CHAIN = ((4, 8, 8), (8, 8, 16), (8, 16, 16))  # 23,120, 41,120 and 87,200 multiply-accumulates
ONE = (12, 20, 24)  # 152,560: hardly more than those together
EXIT = 0.9
_DIGITS = "edgekit.nets.repvgg:repvgg_digits"
QUICK = (Setting("ResNet-8 from ResNet-20, quick", 1000, 1, 500, SEEDS[:1], ("kd", "meal"), 0.05),)


def rows(results: Results, quick: bool, root: Path = Path(".edgekit/benchmarks")) -> None:
    """Mean and standard deviation of top-1 on test images over the seeds, of every case and system."""
    torch.set_num_threads(1)
    bench = _Bench(StepStore(root / "steps"))
    for setting in QUICK if quick else FULL:
        epochs = "1 epoch" if setting.epochs == 1 else f"{setting.epochs} epochs"
        case = f"{setting.name}, {setting.images:,} images, {epochs}"
        for system in ("train", *setting.methods):
            shares = [bench.top1(setting, system, seed) for seed in setting.seeds]
            results.add(case, system, "top1 mean", float(np.mean(shares)), "share")
            if len(shares) > 1:
                results.add(case, system, "top1 std", float(np.std(shares, ddof=1)), "share")
    chain_rows(results, quick, root)


def chain_rows(results: Results, quick: bool, root: Path = Path(".edgekit/benchmarks")) -> None:
    """The same of a chain on digits after each student, and of one student of its size; and of leaving early."""
    torch.set_num_threads(1)
    epochs = QUICK_CHAIN_EPOCHS if quick else CHAIN_EPOCHS
    case = f"digits, a chain of {len(CHAIN)}, {epochs} epochs"
    found = [_Chains(StepStore(root / "steps"), epochs).run(seed) for seed in (SEEDS[:1] if quick else SEEDS)]
    for system in found[0]:
        for metric in found[0][system]:
            values = [run[system][metric] for run in found]
            results.add(case, system, f"{metric} mean", float(np.mean(values)), _UNITS[metric])
            if len(values) > 1:
                results.add(case, system, f"{metric} std", float(np.std(values, ddof=1)), _UNITS[metric])


_UNITS = {"top1": "share", "macs_ratio": "factor"}


@dataclass(frozen=True)
class _Chains:
    store: StepStore
    epochs: int

    def run(self, seed: int) -> dict[str, dict[str, float]]:
        """Metrics of every system, kept like the other runs. Work is a part of the teacher's."""
        data = find_data("digits")
        parts: Mapping[str, object] = {
            "benchmark": "chain",
            "setting": [self.epochs, CHAIN, ONE],
            "seed": seed,
            "data": data.digest,
            "versions": describe_versions(_LIBRARIES),
            "code": [follow_loader(PASSES[name].load).digest for name in ("distill", "train")],
            "networks": follow_modules(["edgekit.nets.chain", "edgekit.nets.repvgg"]).digest,
        }
        key = step_key(parts)
        if self.store.find(key) is None:
            print(f"chain on digits: seed {seed}", file=sys.stderr, flush=True)
            found = self._measure(data, seed)
            self.store.put(key, lambda folder: _write(folder / "top1.json", found), parts)
        folder = self.store.find(key)
        assert folder is not None
        read: dict[str, dict[str, float]] = json.loads((folder / "top1.json").read_text(encoding="utf-8"))
        return read

    def _measure(self, data: LoadedData, seed: int) -> dict[str, dict[str, float]]:
        learning = {"epochs": self.epochs, "learning_rate": 0.05, "augment": ["shift"], "shift_pixels": 1}
        teacher = self._learn(
            _digits("edgekit.nets.repvgg:teacher_digits", {}, seed), Step(name="train", options=learning), data, seed
        )
        whole = count_macs(teacher)
        students = [{"factory": _DIGITS, "arguments": {"widths": list(widths)}} for widths in CHAIN]
        chained = _digits("edgekit.nets.chain:chain", {"students": students}, seed)
        taught = self._learn(
            chained, Step(name="distill", options={**learning, "method": "chain"}), data, seed, teacher
        )
        one = _digits(_DIGITS, {"widths": list(ONE)}, seed)
        alone = self._learn(one, Step(name="distill", options=learning), data, seed, teacher)
        assert isinstance(taught.network, Chain)
        work = [
            count_macs(Model(student, taught.source, taught.outputs)) / whole for student in taught.network.students
        ]
        found = {"float teacher": {"top1": self._top1(teacher, data), "macs_ratio": 1.0}}
        with torch.no_grad():
            sums = list(taught.network.partial_sums(*data.test.inputs))
            logits, runs = taught.network.answer(*data.test.inputs, threshold=EXIT)
        for index, total in enumerate(sums):
            name = f"chain, first {index + 1}" if index + 1 < len(sums) else "chain"
            found[name] = {"top1": _right(total, data), "macs_ratio": sum(work[: index + 1])}
        left = np.mean(np.cumsum(work)[runs.numpy() - 1])
        found[f"chain, leaving at {EXIT}"] = {"top1": _right(logits, data), "macs_ratio": float(left)}
        found["one student, kd"] = {"top1": self._top1(alone, data), "macs_ratio": count_macs(alone) / whole}
        return found

    def _learn(self, model: Model, step: Step, data: LoadedData, seed: int, teacher: Model | None = None) -> Model:
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            context = context_of(data.splits, seed=seed, folder=Path(folder))
            if teacher is not None:
                context = replace(context, teachers=lambda: (teacher,))
            return run_pass(step.name, model, parse_options(step, "benchmark"), context)

    def _top1(self, model: Model, data: LoadedData) -> float:
        with torch.no_grad():
            return _right(model.network(*data.test.inputs), data)


def _right(logits: torch.Tensor, data: LoadedData) -> float:
    return float((logits.argmax(-1) == data.test.labels).double().mean())


def _digits(factory: str, arguments: dict[str, Any], seed: int) -> Model:
    spec = InputSpec(name="image", shape=(1, 1, 8, 8))
    return build(ModelSource(factory=factory, arguments=arguments, inputs=(spec,)), seed)


class _Bench:
    def __init__(self, store: StepStore) -> None:
        self._store = store
        self._versions = describe_versions(_LIBRARIES)

    @cached_property
    def _data(self) -> LoadedData:
        return find_data("cifar10")

    @cached_property
    def _teacher(self) -> Model:
        return build(load_recipe(TEACHER).recipe.model, 0)

    def top1(self, setting: Setting, system: str, seed: int) -> float:
        step = _step(setting, system)
        parts: Mapping[str, object] = {
            "benchmark": "distillation",
            "setting": [setting.images, setting.test_images, setting.pruned],
            "step": step.model_dump(mode="json"),
            "seed": seed,
            "data": self._data.digest,
            "versions": self._versions,
            "code": [follow_loader(PASSES[name].load).digest for name in (step.name, "prune")],
            "networks": follow_modules(["edgekit.nets.mlperf_tiny", "edgekit.nets.cifar_resnet"]).digest,
        }
        key = step_key(parts)
        if self._store.find(key) is None:
            print(f"{setting.name}: {system}, seed {seed}", file=sys.stderr, flush=True)
            share = self._run(setting, step, seed)
            self._store.put(key, lambda folder: _write(folder / "top1.json", share), parts)
        folder = self._store.find(key)
        assert folder is not None
        return float(json.loads((folder / "top1.json").read_text(encoding="utf-8")))

    def _run(self, setting: Setting, step: Step, seed: int) -> float:
        train = self._data.splits.train
        assert train is not None
        splits: Splits = replace(self._data.splits, train=train.head(setting.images))
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            context = replace(context_of(splits, seed=seed, folder=Path(folder)), teachers=lambda: (self._teacher,))
            student = _resnet8(seed)
            if setting.pruned:
                cut = Step(name="prune", options={"budget": {"macs_ratio": 0.5}})
                student = run_pass("prune", self._teacher, parse_options(cut, "benchmark"), context)
            taught = run_pass(step.name, student, parse_options(step, "benchmark"), context)
        return network_metric(taught, self._data.test.head(setting.test_images), context.score)[0]


def _step(setting: Setting, system: str) -> Step:
    options: dict[str, Any] = {
        "epochs": setting.epochs,
        "learning_rate": setting.learning_rate,
        "augment": ["flip", "shift"],
    }
    if system == "train":
        return Step(name="train", options=options)
    if system == "recover":  # as its defaults say
        return spell_out((Step(name="prune", options={"recover": options}),))[-1].step
    own = {system: CIFAR[system]} if system in CIFAR else {}
    return Step(name="distill", options={**options, "method": system, **own})


def _resnet8(seed: int) -> Model:
    source = ModelSource(
        factory="edgekit.nets.mlperf_tiny:resnet8", inputs=(InputSpec(name="image", shape=(1, 3, 32, 32)),)
    )
    return build(source, seed)


def _write(path: Path, found: float | dict[str, dict[str, float]]) -> None:
    path.write_text(json.dumps(found), encoding="utf-8")


def main() -> int:
    """Run all of it, print the table, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, two methods, one epoch on 1,000 images")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--store", type=Path, default=Path(".edgekit/benchmarks"), help="folder for finished runs")
    arguments = parser.parse_args()
    results = Results()
    rows(results, arguments.quick, arguments.store)
    for row in results.rows:
        print(f"{row.case}  {row.system:22} {row.metric:15} {row.value:.4f}")
    if arguments.json is not None:
        write_json(arguments.json, results, describe_machine(), describe_versions(_LIBRARIES))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
