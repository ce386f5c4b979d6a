"""Exporting variants of a model and running them here; both are kept in the store."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from safetensors.numpy import load_file, save_file

from edgekit.data.observers import Seen
from edgekit.formats.table import FORMATS, Format, export
from edgekit.nets.model import Model
from edgekit.nets.program import trace
from edgekit.nets.recurrent import step_model
from edgekit.nets.saved import model_digest
from edgekit.passes.quantize.weight_only import stored_table
from edgekit.pipeline.evaluate import InferFunction, network_metric, run_artifact
from edgekit.pipeline.keys import float_metric_key
from edgekit.pipeline.parity import SAMPLES, Expected, expect, load_expected, save_expected
from edgekit.pipeline.plan import PlannedArtifact
from edgekit.pipeline.run import Stage, Workshop
from edgekit.profiling.inference import infer
from edgekit.schema.base import Record
from edgekit.schema.device import Device
from edgekit.schema.manifest import ArtifactMetric, ArtifactRow, ParityRow
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import Export
from edgekit.schema.tensors import InputSpec

# Where artifacts are evaluated: the machine that builds. Never a claim about speed.
HERE = Device(name="local", target="")

_ROW, _EXPECTED, _RUN, _OUTPUTS, _FILES = (
    "artifact.json",
    "parity.safetensors",
    "run.json",
    "outputs.safetensors",
    "files",
)


class NetworkMetric(Record):
    """A float network's metric on the test split, in PyTorch."""

    value: float
    details: dict[str, float] = Field(default_factory=dict)
    samples: int = Field(description="in the test split")


class _Run(Record):
    metric: float
    details: dict[str, float]
    runtime: str
    parity: ParityRow


@dataclass(frozen=True)
class Exported:
    """An artifact on disk, with its parity samples.

    Attributes:
        file: what the artifact is called in `folder`, where it ships under another name; empty where it does not.
    """

    planned: PlannedArtifact
    row: ArtifactRow
    folder: Path
    file: str = ""

    @property
    def path(self) -> Path:
        """The artifact's own file."""
        return self.folder / _FILES / (self.file or self.row.path)

    @property
    def files(self) -> dict[str, Path]:
        """Everything that belongs to it, by path in the bundle: the artifact, and engine.json where there is one."""
        base = self.folder / _FILES
        found = {p.relative_to(base).as_posix(): p for p in sorted(base.rglob("*")) if p.is_file()}
        return {self.row.path if name == self.file else name: path for name, path in found.items()}

    @property
    def expected(self) -> Expected:
        """Parity samples."""
        return load_expected(self.folder / _EXPECTED)


@dataclass(frozen=True)
class Evaluated:
    """What running an artifact on this machine gave."""

    metric: ArtifactMetric
    parity: ParityRow
    outputs: dict[str, NDArray[np.float32]]


def float_metric(stage: Stage, workshop: Workshop, title: str) -> NetworkMetric:
    """A stage's metric on the test split, in PyTorch.

    Kept by what the network is, not by the step that made it: quantisation leaves the float network as it was.
    """
    network = replace(stage.model, table=None, history=())
    key = float_metric_key(model_digest(network), workshop.plan.around)
    folder = workshop.store.find(key.key)
    if folder is None:
        with workshop.reporter.task(f"testing {title}"):
            test = workshop.data.test
            value, details = network_metric(stage.model, test, workshop.score)
            found = NetworkMetric(value=value, details=details, samples=len(test))

        def write(into: Path) -> None:
            (into / "metric.json").write_text(found.model_dump_json(), encoding="utf-8")

        folder = workshop.store.put(key.key, write, key.parts)
    return NetworkMetric.model_validate_json((folder / "metric.json").read_bytes())


def export_artifact(
    planned: PlannedArtifact, stage: Stage, workshop: Workshop, formats: Mapping[str, Format] = FORMATS
) -> Exported:
    """Export a variant of the last model, with what its PyTorch program gives for the parity samples.

    Raises:
        FormatError: the network cannot be expressed in the format.
        MissingExtraError: the library that writes it is not installed.
    """
    key, variant, options = planned.export, planned.variant, workshop.plan.recipe.recipe.export
    folder = workshop.store.find(key.key)
    if folder is None:
        with workshop.reporter.task(f"exporting {variant.title}"):

            def write(into: Path) -> None:
                (into / _FILES).mkdir()
                artifact = export(
                    _as(stage.model, variant.precision, options),
                    variant.format,
                    variant.convention,
                    into / _FILES,
                    variant.stem,
                    options,
                    workshop.data.calibration.preprocesses,
                    formats,
                )
                (into / _ROW).write_text(artifact.row.model_dump_json(), encoding="utf-8")
                samples = workshop.data.splits.calibration.head(SAMPLES).inputs
                save_expected(expect(artifact, samples, stage.output_edges), into / _EXPECTED)

            folder = workshop.store.put(key.key, write, key.parts)
    row = ArtifactRow.model_validate_json((folder / _ROW).read_bytes())
    return Exported(planned, row, folder)


def evaluate_artifact(
    exported: Exported, workshop: Workshop, specs: Sequence[InputSpec], infer: InferFunction = infer
) -> Evaluated:
    """Parity and the metric on the test split, in the runtime that this machine has for the artifact.

    Args:
        specs: the network's inputs.

    Raises:
        DeviceError: the runtime failed.
    """
    planned = exported.planned
    assert planned.run is not None
    folder = workshop.store.find(planned.run.key)
    if folder is None:
        with workshop.reporter.task(f"testing {planned.variant.title}"):
            result = run_artifact(
                HERE,
                exported.path,
                exported.row,
                planned.variant.local_runtime,
                exported.expected,
                workshop.data.test,
                workshop.score,
                specs=specs,
                codes=workshop.plan.parity_codes,
                infer=infer,
            )
            run = _Run(metric=result.metric, details=result.details, runtime=result.runtime, parity=result.parity)

        def write(into: Path) -> None:
            (into / _RUN).write_text(run.model_dump_json(), encoding="utf-8")
            save_file(result.outputs, into / _OUTPUTS)

        folder = workshop.store.put(planned.run.key, write, planned.run.parts)
    run = _Run.model_validate_json((folder / _RUN).read_bytes())
    here, there = platform.machine(), workshop.plan.target.target.architecture
    # the same file may answer otherwise on another processor: 8-bit kernels differ in how they add
    runtime = run.runtime if here == there else f"{run.runtime} on {here}"
    metric = ArtifactMetric(
        value=run.metric,
        details=run.details,
        is_share=workshop.score.metric.is_share,
        runtime=runtime,
        stand_in=planned.variant.stand_in,
    )
    return Evaluated(metric, run.parity, load_file(folder / _OUTPUTS))


def _as(model: Model, precision: str, options: Export) -> Model:
    """The model with its quantisation table, or the same network without one or in halves.

    Raises:
        ModelError: one step is asked for, and the network has none.
        PassError: a weight is too large for a half.
    """
    if options.recurrent == "step":
        step_model(model)  # refuses a network that has none
    if precision == "fp32":
        return replace(model, table=None)
    if precision == "fp16" and (model.table is None or model.table.activations != "fp16"):
        options_of_half = QuantizeOptions(weights="fp16", activations="fp16", bias_correction="none")
        return replace(model, table=stored_table(trace(model), Seen(), options_of_half))
    return model
