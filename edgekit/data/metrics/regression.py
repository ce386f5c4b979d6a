"""Metrics of numbers: how far the outputs are from what was measured. Smaller is better."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.data.metrics.metric import Floats, Labels
from edgekit.errors import DataError


def mse(outputs: Floats, labels: Labels) -> float:
    """Mean of the squared differences of `outputs` and `labels`, both (N, ...), in float64.

    Raises:
        DataError: they do not hold the same count of numbers for each sample.
    """
    return float(np.square(_differences(outputs, labels, "mse")).mean())


def mae(outputs: Floats, labels: Labels) -> float:
    """Mean of the absolute differences of `outputs` and `labels`, both (N, ...), in float64.

    Raises:
        DataError: they do not hold the same count of numbers for each sample.
    """
    return float(np.abs(_differences(outputs, labels, "mae")).mean())


def squared_by_target(outputs: Floats, labels: Labels) -> dict[str, float]:
    """`target <index>` -> `mse` of that number of a sample alone."""
    means = np.square(_differences(outputs, labels, "mse")).mean(0)
    return {f"target {index}": float(value) for index, value in enumerate(means)}


def absolute_by_target(outputs: Floats, labels: Labels) -> dict[str, float]:
    """`target <index>` -> `mae` of that number of a sample alone."""
    means = np.abs(_differences(outputs, labels, "mae")).mean(0)
    return {f"target {index}": float(value) for index, value in enumerate(means)}


def _differences(outputs: Floats, labels: Labels, metric: str) -> NDArray[np.float64]:
    """(N, D); (N,) is one number a sample, as (N, 1) is."""
    given, wanted = outputs.reshape(len(outputs), -1), labels.reshape(len(labels), -1)
    if given.shape != wanted.shape:
        raise DataError(
            f"labels {labels.shape} for outputs {outputs.shape}",
            f"metric {metric}",
            "give as many numbers for each sample as the network answers",
        )
    if not given.size:
        raise DataError("there are no samples", f"metric {metric}", "give the split samples")
    return given.astype(np.float64) - wanted.astype(np.float64)
