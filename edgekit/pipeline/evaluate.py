"""Metrics: of a network in PyTorch, and of an artifact in a runtime on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from edgekit.data.samples import Samples, in_batches
from edgekit.data.score import Score
from edgekit.nets.model import Model
from edgekit.nets.steps import answer, named_inputs, sample_specs
from edgekit.pipeline.parity import Expected, judge_parity
from edgekit.profiling.inference import Inference, infer
from edgekit.schema.device import Device
from edgekit.schema.gates import TOLERATED_CODES
from edgekit.schema.manifest import ArtifactRow, ParityRow
from edgekit.schema.tensors import InputSpec

BATCH = 250

Arrays: TypeAlias = dict[str, NDArray[np.float32]]

InferFunction = Callable[..., Inference]


@dataclass(frozen=True)
class ArtifactRun:
    """What came out of running an artifact.

    Attributes:
        metric: on the test split.
        details: parts of it, where it has such.
        runtime: with its version.
        outputs: float32, of the parity samples, by the network's names.
    """

    metric: float
    details: dict[str, float]
    runtime: str
    parity: ParityRow
    outputs: dict[str, NDArray[np.float32]]


def network_outputs(model: Model, samples: Samples) -> Arrays:
    """Every answer of a network for every sample, float32 (N, ...) by name, on the network's own device.

    Of one step of a sequence, what it answers after the last; its states are no answers.
    """
    network, was_training = model.network, model.network.training
    where = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    batches = (tuple(inputs.to(where) for inputs in batch) for batch in in_batches(samples.inputs, BATCH))
    network.eval()
    try:
        return answer(model, network, batches)
    finally:
        network.train(was_training)


def network_metric(model: Model, samples: Samples, score: Score) -> tuple[float, dict[str, float]]:
    """A float network's metric in PyTorch and its details."""
    inputs = named_inputs(sample_specs(model.inputs), samples.inputs)
    return scored(score, inputs, network_outputs(model, samples), samples.labels.numpy())


def scored(score: Score, inputs: Arrays, outputs: Arrays, labels: NDArray[Any]) -> tuple[float, dict[str, float]]:
    """The metric and its details."""
    prepared = score.prepare(inputs, outputs)
    return score.with_details(prepared, labels)


def answers(row: ArtifactRow, outputs: Arrays) -> Arrays:
    """The outputs of an artifact that are no states."""
    return {name: array for name, array in outputs.items() if name not in row.feedback}


def run_artifact(
    device: Device,
    path: Path,
    row: ArtifactRow,
    runtime: str,
    expected: Expected,
    test: Samples,
    score: Score,
    *,
    specs: Sequence[InputSpec],
    codes: int = TOLERATED_CODES,
    infer: InferFunction = infer,
) -> ArtifactRun:
    """Run the parity samples and the test split through an artifact, in one job.

    Args:
        runtime: what executes it.
        expected: parity samples and what the artifact's PyTorch program gives for them.
        specs: the inputs that samples are for, with the samples' layouts.
        codes: largest difference in integer codes that parity tolerates.

    Raises:
        DeviceError: the runtime failed.
    """
    samples = {
        spec.name: torch.cat([own, inputs]).numpy()
        for spec, own, inputs in zip(specs, expected.inputs, test.inputs, strict=True)
    }
    given = infer(device, path, row, runtime, samples, {spec.name: spec.layout for spec in specs})
    count = len(expected.inputs[0])
    inputs = {name: array[count:] for name, array in samples.items()}
    outputs = {name: array[count:] for name, array in answers(row, given.outputs).items()}
    metric, details = scored(score, inputs, outputs, test.labels.numpy())
    return ArtifactRun(
        metric=metric,
        details=details,
        runtime=f"{given.runtime} {given.runtime_version}",
        parity=judge_parity(row, expected, {key: array[:count] for key, array in given.outputs.items()}, codes),
        outputs={key: array[:count] for key, array in given.outputs.items()},
    )
