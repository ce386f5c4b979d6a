"""Heads, state spaces and recurrent units cut: `python benchmarks/prune_sequence.py [--quick] [--json FILE]`.

Three published networks are pruned and recover by distillation from themselves as they were: a vision transformer of
depth 6 on CIFAR-10, its heads and hidden channels; a Mamba that reads CIFAR-10 patch by patch; Hello Edge's LSTM on
spoken words. `macs_ratio` is how many times fewer multiply-accumulates are left, `speedup_ms` the whole network's p50
in ONNX Runtime over the cut one's, both exported in float and measured in turns in one run. Trainings leave
checkpoints, so a run that was stopped goes on. Of the words there are 1,000 in all: the LSTM recovers on 500 of them
and is judged by 450 others.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import local_convention
from rows import Interval, Results, describe_machine, describe_versions, write_json
from surroundings import TARGET, context_of

from edgekit.data.splits import LoadedData, load_splits
from edgekit.formats.onnx.export import export_onnx
from edgekit.nets.count import count_macs
from edgekit.nets.load import build
from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.passes.distill.distill import distill
from edgekit.passes.prune.prune import prune
from edgekit.pipeline.evaluate import network_metric
from edgekit.profiling.compare import compare
from edgekit.profiling.jobs import profile_interleaved
from edgekit.schema.calibration import CalibrationSet
from edgekit.schema.device import Device
from edgekit.schema.distill import DistillOptions
from edgekit.schema.load import load_calibration, load_recipe
from edgekit.schema.profile import MeasureSettings
from edgekit.schema.prune import PruneBudget, PruneOptions
from edgekit.schema.recipe import Export

HERE = Device(name="local", target=TARGET)
_EXAMPLE = Path(__file__).parents[1] / "examples" / "pixel_mamba"
_LIBRARIES = ("torch", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Setting:
    """One case.

    Attributes:
        recipe: name, or file, of the recipe whose network it is.
        times: so many times fewer multiply-accumulates are left.
        keep: layers that stay whole.
        splits: of the calibration set, in place of its own.
        learning: options of the recovery.
    """

    name: str
    recipe: str
    calibration: str
    times: float
    epochs: int
    learning: Mapping[str, Any]
    keep: tuple[str, ...] = ()
    splits: Mapping[str, Any] = field(default_factory=dict)


SETTINGS = (
    Setting(
        "vit-d6 1.5x",
        "vit-cifar10",
        "cifar10-vit",
        1.5,
        2,
        {"optimizer": "adamw", "learning_rate": 3e-4, "augment": ["flip", "shift"]},
        keep=("patch_embed.proj",),  # the width that all layers read; heads and hidden channels are what goes
    ),
    Setting(
        "patch-mamba 1.5x",
        str(_EXAMPLE / "patches.yaml"),
        str(_EXAMPLE / "calib" / "cifar10-halves.yaml"),
        1.5,
        2,
        {"optimizer": "adamw", "learning_rate": 1e-3, "augment": ["flip", "shift"]},
        splits={"train": {"part": "train", "count": 14000}},
    ),
    Setting(
        "kws-lstm 2x",
        "kws-lstm",
        "speech-commands-20ms",
        2.0,
        10,
        {"optimizer": "adamw", "learning_rate": 1e-3},
        splits={
            "train": {"count": 500},
            "selection": {"start": 500, "count": 50},
            "test": {"start": 550, "count": 450},
        },
    ),
)


def rows(results: Results, quick: bool, root: Path = Path(".edgekit/benchmarks")) -> None:
    """Top-1 whole, cut and recovered, multiply-accumulates and milliseconds of every case."""
    torch.set_num_threads(1)
    if str(_EXAMPLE) not in sys.path:
        sys.path.append(str(_EXAMPLE))  # its recipe names its own module
    for setting in SETTINGS:
        print(setting.name, file=sys.stderr, flush=True)
        data, model = _data(setting, quick), build(load_recipe(setting.recipe).recipe.model)
        folder = root / "sequence" / f"{setting.name}{'-quick' * quick}"
        context = replace(context_of(data.splits, folder=folder), teachers=partial(_itself, model))
        cut = _cut(model, setting, context)
        options = DistillOptions.model_validate({**setting.learning, "epochs": 1 if quick else setting.epochs})
        recovered = distill(cut, options, context)
        whole = network_metric(model, data.test, context.score)[0]
        results.add(setting.name, "float whole", "top1", whole, "share")
        before = network_metric(cut, data.test, context.score)[0]
        results.add(setting.name, "edgekit", "top1_before_recovery", before, "share")
        results.add(setting.name, "edgekit", "top1", network_metric(recovered, data.test, context.score)[0], "share")
        results.add(setting.name, "edgekit", "macs_ratio", count_macs(model) / count_macs(recovered), "factor")
        _time(setting, model, recovered, results, quick=quick)


def _itself(model: Model) -> tuple[Model, ...]:
    return (model,)


def _data(setting: Setting, quick: bool) -> LoadedData:
    stored = load_calibration(setting.calibration).calibration.model_dump(mode="json", exclude_none=True)
    data = load_splits(CalibrationSet.model_validate({**stored, **setting.splits}))
    if not quick:
        return data
    assert data.splits.train is not None
    splits = replace(data.splits, train=data.splits.train.head(320), calibration=data.splits.calibration.head(64))
    return replace(data, splits=splits, test=data.test.head(200))


def _cut(model: Model, setting: Setting, context: Context) -> Model:
    options = PruneOptions(
        budget=PruneBudget(macs_ratio=1 / setting.times), keep=setting.keep, importance="taylor", blocks=False
    )
    return prune(model, options, context)


def _time(setting: Setting, whole: Model, cut: Model, results: Results, *, quick: bool) -> None:
    settings = MeasureSettings(duration_s=0.5 if quick else 3.0, percentile=90.0)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        made = [
            export_onnx(model, local_convention("onnx"), Path(folder), stem, Export(batch=1))
            for stem, model in (("whole", whole), ("cut", cut))
        ]
        files = [(artifact.path, artifact.row, "onnxruntime") for artifact in made]
        before, after = profile_interleaved(HERE, files, settings)
    if not (before.valid and after.valid):
        reasons = ", ".join(sorted({*before.reasons, *after.reasons}))
        results.notes.append(f"{setting.name}: milliseconds are left out, {reasons}.")
        return
    found = compare(before, after)
    results.add_interval(
        setting.name, "edgekit", "speedup_ms", Interval(found.speedup, found.low, found.high), "factor"
    )


def main() -> int:
    """Run all of it, print the table, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one epoch on 320 samples, 200 to judge by")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--store", type=Path, default=Path(".edgekit/benchmarks"), help="folder for checkpoints")
    arguments = parser.parse_args()
    results = Results()
    rows(results, arguments.quick, arguments.store)
    for row in results.rows:
        print(f"{row.case:18} {row.system:12} {row.metric:22} {row.value:.4f} {row.unit}")
    print(*results.notes, sep="\n")
    if arguments.json is not None:
        write_json(arguments.json, results, describe_machine(), describe_versions(_LIBRARIES))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
