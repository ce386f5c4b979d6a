"""The metric of every shipped artifact on the device itself: one and the same file may answer otherwise there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from edgekit.devices.detached import Progress
from edgekit.devices.session import AgentSession
from edgekit.errors import DeviceError
from edgekit.nets.steps import named_inputs
from edgekit.pipeline.artifacts import HERE, Exported
from edgekit.pipeline.evaluate import answers
from edgekit.pipeline.parity import agreement
from edgekit.pipeline.progress import Update
from edgekit.pipeline.run import Workshop
from edgekit.profiling.engines import EngineBuilt
from edgekit.profiling.inference import PIECE_BYTES, Inference, infer
from edgekit.schema.manifest import BoardMetricRow, Skipped
from edgekit.schema.tensors import InputSpec

InferFunction = Callable[..., Inference]


@dataclass(frozen=True)
class OnBoard:
    """What a device told of accuracy.

    Attributes:
        failed: whether something that should have been tested was not.
    """

    rows: tuple[BoardMetricRow, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    failed: bool = False


def evaluate_on(
    session: AgentSession,
    instead_of: str | None,
    shipped: Sequence[Exported],
    workshop: Workshop,
    specs: Sequence[InputSpec],
    most: int | None,
    engines: Mapping[str, EngineBuilt] = MappingProxyType({}),
    *,
    infer: InferFunction = infer,
) -> OnBoard:
    """The metric on the test split, sent raw and preprocessed there, beside what this machine gives for the same.

    An artifact that does not run there leaves a reason and does not stop the others.

    Args:
        session: on the device.
        instead_of: target that the device only stands in for; None: it is of the target.
        shipped: artifacts.
        specs: the network's inputs.
        most: samples of the test split that are sent; None: all.
        engines: of TensorRT artifacts, by their paths; one without is left out.
    """
    device, reporter = session.device, workshop.reporter
    data = workshop.data
    raw, ready = data.raw_test.take(slice(most)), data.test.head(len(data.test) if most is None else most)
    given: Mapping[str, Any] = {
        "inputs": {spec.name: array for spec, array in zip(specs, raw.inputs, strict=True)},
        "input_layouts": {spec.name: spec.layout for spec in specs},
        "raw": True,
    }
    inputs = named_inputs(specs, ready.inputs)
    rows, skipped, failed = [], [], False
    for one in shipped:
        engine = engines.get(one.row.path)
        if one.planned.variant.format == "tensorrt" and engine is None:
            if one.planned.variant.runtime == "trtexec" and instead_of is None:
                reason = "trtexec takes no samples"
                skipped.append(Skipped(what="metric on the device", where=one.row.path, reason=reason))
            continue  # else whoever builds engines has said why
        try:
            with reporter.task(f"testing {one.row.path} on {device.name}") as update:
                there = infer(
                    device,
                    one.path if engine is None else engine.path,
                    one.row if engine is None else engine.row(one.row),
                    one.planned.variant.runtime,
                    options=None if engine is None else engine.runtime_options,
                    session=session,
                    piece_bytes=PIECE_BYTES,
                    on_progress=shown(update),
                    **given,
                )
        except DeviceError as err:
            where = f"{one.row.path} on {device.name}"
            skipped.append(Skipped(what="metric on the device", where=where, reason=f"{err.what}; {err.fix}"))
            failed = True
            continue
        here = infer(HERE, one.path, one.row, one.planned.variant.local_runtime, **given)
        first = one.row.outputs[0].network_name
        row = BoardMetricRow(
            artifact=one.row.path,
            device=device.name,
            stand_in=instead_of is not None,
            runtime=f"{there.runtime} {there.runtime_version}",
            value=workshop.score(inputs, answers(one.row, there.outputs), raw.labels),
            host_value=workshop.score(inputs, answers(one.row, here.outputs), raw.labels),
            samples=len(raw),
            agreement_ratio=agreement(here.outputs[first], there.outputs[first]),
            max_abs_error=max(float(np.abs(there.outputs[key] - here.outputs[key]).max()) for key in here.outputs),
        )
        rows.append(row)
        reporter.note(_told(row, workshop.plan.recipe.recipe.metric.name, instead_of))
    return OnBoard(tuple(rows), tuple(skipped), failed)


def shown(update: Update) -> Progress:
    """What the agent tells, as the pipeline shows it."""
    last = [0, 1]

    def tell(told: Mapping[str, Any]) -> None:
        if "done" in told and "total" in told:
            last[:] = [int(told["done"]), int(told["total"])]
        note = str(told.get("stage", ""))
        if "position" in told:
            note += f": {told['position']} before us, {told['holder']} has it"
        if told.get("left_s") is not None:
            note += f", {float(told['left_s']):.0f} s left"
        update(last[0], last[1], note)

    return tell


def _told(row: BoardMetricRow, metric: str, instead_of: str | None) -> str:
    label = f" (stand-in for {instead_of})" if instead_of else ""
    same = "the same" if row.value == row.host_value else f"{row.host_value:.4f}"
    return (
        f"{row.artifact} on {row.device}{label}: {metric} {row.value:.4f} of {row.samples} samples, {same} here; "
        f"{row.agreement_ratio:.2%} of the answers agree"
    )
