"""Metrics: of a network in PyTorch, and of an artifact in a runtime on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgekit.data.metrics import Metric
from edgekit.data.samples import Samples
from edgekit.errors import DataError, ModelError
from edgekit.nets.model import Model
from edgekit.pipeline.parity import Expected, first_output, judge_parity
from edgekit.profiling.inference import Inference, infer
from edgekit.schema.device import Device
from edgekit.schema.gates import TOLERATED_CODES
from edgekit.schema.manifest import ArtifactRow, ParityRow

BATCH = 250

InferFunction = Callable[..., Inference]


@dataclass(frozen=True)
class ArtifactRun:
    """What came out of running an artifact.

    Attributes:
        metric: on the test split.
        runtime: with its version.
        outputs: float32, of the parity samples, by the network's names.
    """

    metric: float
    runtime: str
    parity: ParityRow
    outputs: dict[str, NDArray[np.float32]]


def network_outputs(network: nn.Module, inputs: torch.Tensor) -> NDArray[np.float32]:
    """First output of a network for every sample, on the network's own device.

    Args:
        inputs: (N, ...) as the network takes them.
    """
    was_training = network.training
    where = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    network.eval()
    try:
        with torch.no_grad():
            parts = [first_output(network(part.to(where))).cpu() for part in torch.split(inputs, BATCH)]
    finally:
        network.train(was_training)
    return torch.cat(parts).float().numpy()


def check_samples(model: Model, samples: Samples, where: str) -> None:
    """Refuse samples that the network was not declared to take, before anything is trained or exported with them.

    Args:
        where: the recipe's data, for the message.

    Raises:
        ModelError: the network has several inputs, and samples have one.
        DataError: another shape.
    """
    _check_single_input(len(model.inputs), model.source.reference)
    spec = model.inputs[0]
    wanted, given = tuple(spec.shape[1:]), tuple(samples.inputs.shape[1:])
    if wanted != given:
        raise DataError(
            f"a sample is {given}, and input {spec.name!r} of the network takes {wanted}",
            f"data: {where}; model.inputs",
            "correct model.inputs, the preprocessing of the calibration set, or choose other data",
        )


def network_metric(model: Model, samples: Samples, metric: Metric) -> float:
    """A float network's metric in PyTorch, on samples that passed `check_samples`."""
    return metric(network_outputs(model.network, samples.inputs), samples.labels.numpy())


def run_artifact(
    device: Device,
    path: Path,
    row: ArtifactRow,
    runtime: str,
    expected: Expected,
    test: Samples,
    metric: Metric,
    *,
    input_layout: str,
    codes: int = TOLERATED_CODES,
    infer: InferFunction = infer,
) -> ArtifactRun:
    """Run the parity samples and the test split through an artifact, in one job.

    Args:
        runtime: what executes it.
        expected: parity samples and what the artifact's PyTorch program gives for them.
        input_layout: layout of the network's input, which samples are in.
        codes: largest difference in integer codes that parity tolerates.

    Raises:
        ModelError: the artifact has several inputs.
        DeviceError: the runtime failed.
    """
    _check_single_input(len(row.sample_inputs), row.path)
    samples = torch.cat([expected.inputs, test.inputs]).numpy()
    (name,) = row.sample_inputs
    given = infer(device, path, row, runtime, {name: samples}, {name: input_layout})
    count = len(expected.inputs)
    return ArtifactRun(
        metric=metric(given.outputs[row.outputs[0].network_name][count:], test.labels.numpy()),
        runtime=f"{given.runtime} {given.runtime_version}",
        parity=judge_parity(row, expected, {key: array[:count] for key, array in given.outputs.items()}, codes),
        outputs={key: array[:count] for key, array in given.outputs.items()},
    )


def _check_single_input(count: int, where: str) -> None:
    if count != 1:
        raise ModelError(
            f"the network has {count} inputs, and samples of a calibration set have one",
            where,
            "wrap the network so that it takes one input",
        )
