"""Metrics: from outputs and labels to one number, larger is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError
from edgekit.schema.find import suggest
from edgekit.schema.reference import import_function

Metric: TypeAlias = Callable[[NDArray[np.float32], NDArray[np.int64]], float]


def top1(outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Share of rows of `outputs` (N, C) whose largest entry is at `labels` (N,)."""
    return float((outputs.argmax(1) == labels).mean())


def top5(outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Share of rows of `outputs` (N, C) that have `labels` (N,) among their five largest entries.

    Of equal entries the first counts as larger, as in `top1`.
    """
    best = np.argsort(-outputs, axis=1, kind="stable")[:, :5]
    return float((best == labels[:, None]).any(1).mean())


METRICS: Mapping[str, Metric] = {"top1": top1, "top5": top5}


def find_metric(name: str, table: Mapping[str, Metric] = METRICS) -> Metric:
    """The metric of that name, or the user's own function of `package.module:function`.

    Raises:
        DataError: no such metric; names the nearest.
    """
    if ":" in name:
        return import_function(name, "metric", DataError)
    if name not in table:
        raise DataError(f"no metric is called {name!r}", "metric", suggest(name, sorted(table), "metrics"))
    return table[name]
