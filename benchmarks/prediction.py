"""How far `edgekit predict` misses: each network predicted from measurements of the others, beside what it takes.

    python benchmarks/prediction.py [--quick] [--only NAME ...] [--json F]

METHOD says how. Everything is measured anew.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from machine import local_convention
from rows import Results, describe_machine, describe_versions, write_json
from surroundings import TARGET, context_of

from edgekit.data.samples import Samples, Splits
from edgekit.formats.table import export
from edgekit.nets.load import build
from edgekit.nets.model import Model
from edgekit.passes.table import run_pass
from edgekit.profiling.jobs import profile
from edgekit.profiling.predict import Measured, estimate
from edgekit.profiling.predict_costs import graph_costs
from edgekit.schema.device import Device
from edgekit.schema.load import load_target
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.profile import MeasureSettings, Profile
from edgekit.schema.recipe import Export, ModelSource
from edgekit.schema.target import Precision
from edgekit.schema.tensors import InputSpec

METHOD = """\
Networks with random weights, in ONNX Runtime on one thread of this machine, float32 and int8 (quantised on noise: what
is computed decides the time, not the values). Each is then predicted from all others, as `edgekit predict` does with
networks that it has not seen, and missed by predicted / measured. A profile that is not VALID is measured again; where
none of four is, the one with the lowest p50 counts, and a note names it: another process can only make a run slower."""
# name -> factory, arguments, shape
NETWORKS = {
    "ResNet-20": ("cifar_resnet:resnet20", {}, (3, 32, 32)),
    "ResNet-8": ("mlperf_tiny:resnet8", {}, (3, 32, 32)),
    "DS-CNN": ("mlperf_tiny:ds_cnn", {}, (1, 49, 10)),
    "ResNet-56": ("cifar_resnet:resnet56", {}, (3, 32, 32)),
    "MobileNetV1 0.25, 96": ("mobilenet:mobilenet_v1", {"width": 0.25}, (3, 96, 96)),
    "MobileNetV1 0.5, 160": ("mobilenet:mobilenet_v1", {"width": 0.5}, (3, 160, 160)),
    "MobileNetV1 1.0, 224": ("mobilenet:mobilenet_v1", {"width": 1.0}, (3, 224, 224)),
    "MobileNetV2 0.35, 96": ("mobilenet:mobilenet_v2", {"width": 0.35}, (3, 96, 96)),
    "MobileNetV2 1.0, 160": ("mobilenet:mobilenet_v2", {"width": 1.0}, (3, 160, 160)),
    "RepVGG, digits": ("repvgg:repvgg_digits", {}, (1, 8, 8)),
    "teacher, digits": ("repvgg:teacher_digits", {}, (1, 8, 8)),
    "ViT, depth 6": ("vit:vit_d6", {}, (3, 32, 32)),
}
QUICK = ("ResNet-20", "ResNet-8", "DS-CNN", "MobileNetV1 0.25, 96", "RepVGG, digits")
LIBRARIES = ("onnxruntime", "torch", "numpy", "scipy")
_SETTINGS = MeasureSettings(duration_s=1.5, percentile=90.0, layers=True)
_TRIES = 4
_SAMPLES = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, predict each network from the others, print and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--only", nargs="+", choices=NETWORKS, help="predict these alone; all are measured")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    results = Results()
    found: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        for name in QUICK if given.quick else NETWORKS:
            found += measure(name, Path(folder), results)
    compare(found, given.only or list(NETWORKS), results)
    for row in results.rows:
        print(f"{row.case:32} {row.system:10} {row.metric:24} {row.value:8.4g} {row.unit}")
    for note in results.notes:
        print(f"note: {note}")
    if given.json:
        write_json(given.json, results, describe_machine(), describe_versions(LIBRARIES))
    return 0


def measure(name: str, folder: Path, results: Results) -> list[Measured]:
    """One network in float32 and int8."""
    path, arguments, shape = NETWORKS[name]
    source = ModelSource(
        factory=f"edgekit.nets.{path}",
        arguments=arguments,
        inputs=(InputSpec(name="input", shape=(1, *shape)),),
    )
    model = build(source, seed=0)
    draw = torch.Generator().manual_seed(0)
    noise = Samples((torch.randn((_SAMPLES, *shape), generator=draw),), torch.zeros(_SAMPLES, dtype=torch.long))
    context = context_of(Splits(None, noise, None, digest="noise"), folder=folder / "step")
    quantised = run_pass("quantize", model, QuantizeOptions(bias_correction="none"), context)
    made = []
    for precision, version in (("fp32", model), ("int8", quantised)):
        taken, doubt = _measured(version, folder)
        if doubt:
            results.notes.append(f"{name}, {precision}: INVALID in {_TRIES} tries, the lowest p50 of them: {doubt}")
        costs = graph_costs(folder / "model.onnx")
        ms = taken.summary.p50_ms
        made.append(Measured(name, costs, ms, taken.layers))
        print(f"{name}, {precision}: {ms:.4f} ms, {costs.macs / 1e6:.2f} M MACs", file=sys.stderr)
    return made


def _measured(model: Model, folder: Path) -> tuple[Profile, str]:
    """A profile with its layers, and why it may be doubted; empty: it is VALID."""
    artifact = export(model, "onnx", local_convention("onnx"), folder, "model", Export())
    local = Device(name="local", target=TARGET)
    taken: list[Profile] = []
    for _ in range(_TRIES):
        taken.append(profile(local, artifact.path, artifact.row, "onnxruntime", _SETTINGS))
        if taken[-1].valid:
            return taken[-1], ""
    best = min(taken, key=lambda one: one.summary.p50_ms)
    return best, ", ".join(best.reasons)


def compare(found: Sequence[Measured], names: Sequence[str], results: Results) -> None:
    """Each network from all others: predicted, measured, and by what factor it is missed."""
    target = load_target(TARGET).target
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    for precision in precisions:
        missed, inside = [], []
        for one in found:
            if one.costs.precision != precision or one.network not in names:
                continue
            others = [other for other in found if other.network != one.network]
            made = estimate(one.costs, target, "onnxruntime", precision, others)
            case = f"{one.network}, {precision}"
            results.add(case, "edgekit", "measured p50", one.ms, "ms")
            if made.ms is None or made.low_ms is None or made.high_ms is None:
                results.notes.append(f"{case}: no estimate, {made.basis}")
                continue
            results.add(case, "edgekit", "predicted", made.ms, "ms")
            results.add(case, "edgekit", "predicted, low", made.low_ms, "ms")
            results.add(case, "edgekit", "predicted, high", made.high_ms, "ms")
            results.add(case, "edgekit", "predicted / measured", made.ms / one.ms, "factor")
            results.notes.append(f"{case}: {made.method}")
            missed.append(abs(math.log(made.ms / one.ms)))
            inside.append(made.low_ms <= one.ms <= made.high_ms)
        if missed:
            results.add(f"all, {precision}", "edgekit", "missed by, median", math.exp(median(missed)), "factor")
            results.add(f"all, {precision}", "edgekit", "missed by, most", math.exp(max(missed)), "factor")
            results.add(f"all, {precision}", "edgekit", "inside the error bar", sum(inside) / len(inside), "share")


if __name__ == "__main__":
    sys.exit(main())
