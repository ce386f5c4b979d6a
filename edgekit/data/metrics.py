"""Metrics: from outputs and labels to one number, larger is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Metric: TypeAlias = Callable[[NDArray[np.float32], NDArray[np.int64]], float]


def top1(outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Share of rows of `outputs` (N, C) whose largest entry is at `labels` (N,)."""
    return float((outputs.argmax(1) == labels).mean())


METRICS: Mapping[str, Metric] = {"top1": top1}
