"""From what a build found to what its bundle says: metrics, parity, gates, materials."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import edgekit
from edgekit.data.metrics.metric import Metric
from edgekit.nets.model import Model
from edgekit.nets.steps import named_inputs, sample_specs
from edgekit.pipeline.artifacts import Evaluated, Exported, NetworkMetric, evaluate_artifact, float_metric
from edgekit.pipeline.findings import find_faults
from edgekit.pipeline.keys import weights_digest
from edgekit.pipeline.on_device import OnDevice
from edgekit.pipeline.parity import expected_codes
from edgekit.pipeline.plan import Plan
from edgekit.pipeline.run import Stages, Workshop
from edgekit.pipeline.sources import library_version
from edgekit.pipeline.sparsity import sparse_artifacts
from edgekit.profiling.compare import Comparison
from edgekit.release.bundle import BundleDraft, profile_row
from edgekit.release.gates import FLOAT_OUTPUTS, STAND_IN_RUNTIME, ArtifactEvidence, Evidence, judge, verdict
from edgekit.release.parity import Expected, ParitySamples, Tolerance
from edgekit.release.sbom import DataSet, Materials
from edgekit.schema.device import Device
from edgekit.schema.manifest import Environment, GateRow, ManifestInput, Metrics, RecipeRow, Skipped, TargetRow
from edgekit.schema.precision import KeptHigh
from edgekit.schema.tensors import InputSpec

_LIBRARIES = (
    "accelerate",
    "ai-edge-litert",
    "litert-torch",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "safetensors",
    "scikit-learn",
    "torch",
    "torchao",
)


def draft_bundle(
    workshop: Workshop,
    stages: Stages,
    found: OnDevice,
    log: Path,
    *,
    device: Device | None,
    measuring: bool,
    regressions: Mapping[str, Comparison | str] = MappingProxyType({}),
) -> BundleDraft:
    """Test everything that is shipped, judge it, and gather what the manifest needs.

    Args:
        found: shipped artifacts, float versions that are not, and what a device told of them.
        device: that was named; None: none was.
        measuring: False under --no-measure.
        regressions: by artifact, how it compares with the last release, or why that cannot be said.

    Raises:
        DeviceError: an artifact does not run on this machine.
    """
    plan, recipe = workshop.plan, workshop.plan.recipe.recipe
    reference = float_metric(stages.model[plan.reference], workshop, "the float network")
    compressed = float_metric(stages.model[-1], workshop, "the compressed network in float")
    shipped = tuple(item for item in found.exported if item.planned.variant.ships)
    specs = sample_specs(stages.model[-1].model.inputs)
    evaluated = {item.row.path: evaluate_artifact(item, workshop, specs) for item in shipped}
    metric, name = workshop.score.metric, recipe.metric.name
    gates = _judge(plan, metric, reference, shipped, evaluated, found, device, measuring, regressions)
    last = stages.model[-1].model
    libraries = {name: version for name in _LIBRARIES if (version := library_version(name))}
    prepared = {tensor.network_name: tensor.preprocess for tensor in shipped[0].row.inputs}
    return BundleDraft(
        edgekit_version=edgekit.__version__,
        recipe=RecipeRow(name=recipe.name, digest=plan.recipe.digest, text=plan.recipe.text),
        target=TargetRow(name=plan.target.target.name, digest=plan.target.digest),
        environment=Environment(python=platform.python_version(), platform=platform.platform(), libraries=libraries),
        inputs=tuple(ManifestInput(**spec.model_dump(), preprocess=prepared.get(spec.name)) for spec in last.inputs),
        outputs=last.outputs,
        artifacts=tuple(item.row for item in shipped),
        metrics=Metrics(
            name=name,
            larger_is_better=metric.larger_is_better,
            is_share=metric.is_share,
            details=reference.details,
            float={name: reference.value},
            compressed={name: compressed.value},
            per_artifact={path: {name: found.metric} for path, found in evaluated.items()},
            samples=reference.samples,
        ),
        parity=tuple(found.parity for found in evaluated.values()),
        postprocess=recipe.postprocess,
        verdict=verdict(gates),
        files={**{name: path for item in shipped for name, path in item.files.items()}, **dict(found.files)},
        samples=_parity_samples(plan, specs, shipped, evaluated),
        materials=_materials(plan, libraries),
        measured=measuring,
        overrides=plan.overrides,
        full_profiles=found.measured.profiles,
        board_metrics=found.board.rows,
        speed=found.measured.speed,
        sparse=sparse_artifacts([(item.path, item.row) for item in shipped], plan.target.target, stages.rows),
        gates=gates,
        steps=stages.rows,
        kept_high=tuple(_kept_high(last)),
        skipped=(*stages.skipped, *_not_as_asked(shipped, last), *found.skipped),
        findings=find_faults(stages, workshop),
        log=log,
    )


def _kept_high(model: Model) -> Iterator[KeptHigh]:
    for layer, kept in () if model.table is None else model.table.kept.items():
        yield KeptHigh(layer=layer, number=kept.number, reason=kept.reason)


def _not_as_asked(shipped: tuple[Exported, ...], model: Model) -> Iterator[Skipped]:
    """Artifacts that are no integers, or store narrower ones than asked for in whole bytes."""
    weights = {} if model.table is None or not model.table.integer else model.table.weights
    narrow = sorted({codes.number for codes in weights.values() if codes.bits < 8})
    for item in shipped:
        if item.planned.variant.not_int8:
            yield Skipped(what="int8", where=item.row.path, reason=item.planned.variant.not_int8)
        elif narrow:
            reason = f"stored as int8, which integer kernels read: {' and '.join(narrow)} make the file no smaller"
            yield Skipped(what="packed weights", where=item.row.path, reason=reason)


def _judge(
    plan: Plan,
    metric: Metric,
    reference: NetworkMetric,
    shipped: tuple[Exported, ...],
    evaluated: Mapping[str, Evaluated],
    found: OnDevice,
    device: Device | None,
    measuring: bool,
    regressions: Mapping[str, Comparison | str],
) -> tuple[GateRow, ...]:
    artifacts = tuple(
        ArtifactEvidence(
            path=item.row.path,
            size_bytes=item.row.size_bytes,
            metric=evaluated[item.row.path].metric,
            code_error=evaluated[item.row.path].parity.max_code_error,
            parity_error=evaluated[item.row.path].parity.max_abs_error,
            parity_tolerance=evaluated[item.row.path].parity.tolerance,
            integer=item.row.precision == "int8",
            stand_in=item.planned.variant.stand_in,
            code_error_reason=STAND_IN_RUNTIME if item.planned.variant.stand_in else FLOAT_OUTPUTS,
        )
        for item in shipped
    )
    evidence = Evidence(
        float_metric=reference.value,
        larger_is_better=metric.larger_is_better,
        is_share=metric.is_share,
        artifacts=artifacts,
        profiles=tuple(map(profile_row, found.measured.profiles)),
        board_metrics=found.board.rows,
        samples=reference.samples,
        device=device.name if device is not None and measuring else None,
        device_reason="no device" if device is None else "--no-measure",
        regressions=regressions,
    )
    return judge(plan.gates, evidence)


def _parity_samples(
    plan: Plan, specs: Sequence[InputSpec], shipped: tuple[Exported, ...], evaluated: Mapping[str, Evaluated]
) -> ParitySamples:
    inputs = shipped[0].expected.inputs
    return ParitySamples(
        inputs=named_inputs(specs, inputs),
        layouts={spec.name: spec.layout for spec in specs},
        expected={
            item.row.path: Expected(
                outputs={name: tensor.numpy() for name, tensor in item.expected.outputs.items()},
                tolerance=Tolerance(output=evaluated[item.row.path].parity.tolerance, code=plan.parity_codes),
                codes=expected_codes(item.row, item.expected),
            )
            for item in shipped
        },
    )


def _materials(plan: Plan, libraries: dict[str, str]) -> Materials:
    sources = {"model": plan.recipe.recipe.model}
    sources |= {who: teacher.model for who, teacher in plan.recipe.recipe.taught_by.items()}
    checkpoints = {name: weights_digest(source) for name, source in sources.items() if source.files}
    data = DataSet(plan.recipe.recipe.data)
    if plan.calibration is not None:
        calibration = plan.calibration.calibration
        data = DataSet(calibration.name, calibration.licence, calibration.citation)
    return Materials(libraries=libraries, data=(data,), checkpoints=checkpoints)
