"""A draft of a bundle with every kind of row in it, for the tests of release, report and cli."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.profiling.statistics import summarise
from edgekit.release.bundle import BundleDraft
from edgekit.release.parity import Expected, ParitySamples, Tolerance
from edgekit.release.sbom import DataSet, Materials
from edgekit.schema.manifest import (
    ArtifactMetric,
    ArtifactRow,
    ConformanceRow,
    Environment,
    GateRow,
    InFloat,
    ManifestInput,
    Measure,
    Metrics,
    ParityRow,
    QuantisedTensor,
    RecipeRow,
    Skipped,
    SpeedRow,
    StepRow,
    TargetRow,
)
from edgekit.schema.profile import Conditions, MeasureSettings, Profile
from edgekit.schema.tensors import ArtifactTensor, OutputSpec

DraftMaker = Callable[..., BundleDraft]
RECIPE = "name: quickstart\nsteps:\n  - prune: {macs_ratio: 0.5}  # <b>half</b>\n"
FILES = {
    "model.onnx": b"int8 for onnxruntime" * 1500,
    "model.fp32.onnx": b"float" * 20_000,
    "model.tensorrt.onnx": b"trt" * 9,
}


def _tensor(name: str, shape: tuple[int, ...]) -> ArtifactTensor:
    return ArtifactTensor(name=name, network_name=name, shape=shape, dtype="float32", layout="NC")


def _artifact(path: str, content: bytes, **changes: Any) -> ArtifactRow:
    fields: dict[str, Any] = {
        "format": "onnx",
        "convention": "onnxruntime-arm",
        "path": path,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "precision": "int8",
        "inputs": (_tensor("x", (1, 3)),),
        "outputs": (_tensor("logits", (1, 2)),),
    }
    return ArtifactRow(**{**fields, **changes})


def _quantised(tensor: str, **changes: Any) -> QuantisedTensor:
    fields: dict[str, Any] = {
        "tensor": tensor,
        "role": "activation",
        "bits": 8,
        "dtype": "uint8",
        "scheme": "affine",
        "scale": (0.0123,),
        "zero_point": (128,),
    }
    return QuantisedTensor(**{**fields, **changes})


def _artifacts() -> tuple[ArtifactRow, ...]:
    weights = _quantised(
        "conv1.weight", role="weight", dtype="int8", scheme="symmetric", axis=0, scale=(0.002, 0.009), zero_point=(0, 0)
    )
    return (
        _artifact(
            "model.onnx",
            FILES["model.onnx"],
            quantisation=(_quantised("x"), weights, _quantised("conv1", tied_to="add1")),
            fused={"QLinearConv": 19, "QLinearAdd": 9},
            in_float=(InFloat(node="head.softmax", op="Softmax", reason="the convention keeps it in float"),),
        ),
        _artifact("model.fp32.onnx", FILES["model.fp32.onnx"], precision="fp32"),
        _artifact(
            "model.tensorrt.onnx",
            FILES["model.tensorrt.onnx"],
            format="tensorrt",
            convention="tensorrt",
            engine="deferred",
            conformance=(
                ConformanceRow(rule="every zero point is 0", passed=True, checked=41),
                ConformanceRow(rule="residual adds are quantised", passed=False, checked=9, detail="add3 is not"),
            ),
        ),
    )


def _profile(artifact: ArtifactRow, samples_ms: list[float], **changes: Any) -> Profile:
    fields: dict[str, Any] = {
        "artifact": artifact.path,
        "artifact_sha256": artifact.sha256,
        "device": "local",
        "stand_in": True,
        "stand_in_for": "jetson-orin-nano",
        "runtime": "onnxruntime",
        "runtime_version": "1.23.2",
        "agent_version": "1",
        "settings": MeasureSettings(),
        "samples_ms": tuple(samples_ms),
        "summary": summarise(samples_ms),
        "conditions": Conditions(cpu="AMD EPYC 7B13"),
        "peak_rss_bytes": 61_000_000,
        "valid": False,
        "reasons": ("stand-in",),
        "measured_at": "2026-07-01T10:00:00Z",
    }
    return Profile(**{**fields, **changes})


def _steps() -> tuple[StepRow, ...]:
    def step(name: str, before: Measure | None, after: Measure, **changes: Any) -> StepRow:
        fields: dict[str, Any] = {"options": {"epochs": 3}, "key": "0" * 64, "cached": False, "seconds": 12.34}
        return StepRow(name=name, before=before, after=after, **{**fields, **changes})

    teacher = Measure(params=1_234_567, macs=98_700_000, size_bytes=4_938_268, metric=0.991)
    loaded = Measure(params=269_722, macs=40_810_000, size_bytes=1_078_888, metric=None)
    pruned = Measure(params=120_010, macs=20_300_000, size_bytes=480_040, metric=0.9731)
    small = Measure(params=120_010, macs=20_300_000, size_bytes=121_210, metric=0.9712)
    return (
        step("train", None, teacher, model="teacher", cached=True, seconds=0.1),
        step("prune", loaded, pruned, options={"macs_ratio": 0.5}),
        step("quantize", pruned, small, options={"observer": "mse"}),
    )


def _metric(value: float, *, stand_in: bool = False) -> dict[str, ArtifactMetric]:
    return {"top1": ArtifactMetric(value=value, runtime="onnxruntime 1.23.2", stand_in=stand_in)}


def _gates() -> tuple[GateRow, ...]:
    def row(name: str, bound: str, value: float | None, state: str, reason: str = "") -> GateRow:
        fields = {"name": name, "subject": "model.onnx", "bound": bound, "value": value, "state": state}
        return GateRow.model_validate({**fields, "required": True, "reason": reason})

    return (
        row("metric_drop", "at most 0.005", 0.0012, "passed"),
        row("size_bytes", "at most 25000", 30_000, "failed"),
        row("latency_p99_ms", "at most 8", None, "not evaluated", "no device"),
    )


def _samples() -> ParitySamples:
    generator = np.random.default_rng(0)
    outputs = generator.normal(size=(16, 2)).astype(np.float32)
    codes = {"logits": generator.integers(-128, 127, (16, 2), dtype=np.int8)}
    expected = {
        "model.onnx": Expected({"logits": outputs}, Tolerance(output=0.05, code=1), codes),
        "model.fp32.onnx": Expected({"logits": outputs + 0.01}, Tolerance(output=1e-5)),
        "model.tensorrt.onnx": Expected({"logits": outputs}, Tolerance(output=0.05)),
    }
    return ParitySamples({"x": generator.normal(size=(16, 3)).astype(np.float32)}, {"x": "NC"}, expected)


@pytest.fixture
def draft_of(tmp_path: Path) -> DraftMaker:
    """Makes a draft whose files lie in a folder of their own; keyword arguments replace its fields."""
    source = tmp_path / "exported"
    source.mkdir()
    for name, content in FILES.items():
        (source / name).write_bytes(content)
    (source / "log").write_text("10:00:00 began\n")

    def make(**changes: Any) -> BundleDraft:
        rows = _artifacts()
        fields: dict[str, Any] = {
            "edgekit_version": "0.1.0",
            "recipe": RecipeRow(name="quickstart", digest="ab" * 32, text=RECIPE),
            "target": TargetRow(name="jetson-orin-nano", digest="cd" * 32),
            "environment": Environment(python="3.11.2", platform="Linux x86_64", libraries={"torch": "2.13.0"}),
            "inputs": (ManifestInput(name="x", shape=(1, 3), layout="NC"),),
            "outputs": (OutputSpec(name="logits", shape=(1, 2)),),
            "artifacts": rows,
            "metrics": Metrics(
                name="top1",
                float={"top1": 0.9823},
                per_artifact={
                    "model.onnx": _metric(0.9811),
                    "model.fp32.onnx": _metric(0.9823),
                    "model.tensorrt.onnx": _metric(0.9805, stand_in=True),
                },
                samples=360,
            ),
            "parity": (
                ParityRow(
                    reference="Q/DQ program in PyTorch",
                    candidate="model.onnx",
                    max_abs_error=0.031,
                    max_code_error=1,
                    agreement_ratio=1.0,
                    tolerance=0.05,
                    passed=True,
                ),
            ),
            "verdict": "fail",
            "files": {name: source / name for name in FILES},
            "samples": _samples(),
            "materials": Materials({"torch": "2.13.0", "onnx": "1.19.1"}, (DataSet("digits", "CC BY 4.0"),)),
            "measured": True,
            "full_profiles": (
                _profile(rows[0], [1.0 + 0.001 * (i % 50) for i in range(2000)]),
                _profile(rows[1], [1.6 + 0.002 * (i % 50) for i in range(500)], reasons=("noisy", "stand-in")),
            ),
            "speed": (
                SpeedRow(
                    artifact="model.onnx",
                    reference="model.fp32.onnx",
                    device="local",
                    stand_in=True,
                    speedup=1.612,
                    low=1.58,
                    high=1.66,
                    macs_ratio=0.497,
                    verdict="faster",
                ),
            ),
            "gates": _gates(),
            "steps": _steps(),
            "skipped": (Skipped(what="TensorRT engine", where="model.tensorrt.onnx", reason="no device"),),
            "log": source / "log",
        }
        return BundleDraft(**{**fields, **changes})

    return make
