"""What a metric is, and the checks that every metric makes of what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError

Outputs: TypeAlias = Any  # NDArray[np.float32] (N, ...), or of a network with several outputs a dict of name -> array
Labels: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.int64]

IGNORED = -1  # label of a position that does not count, such as padding


@dataclass(frozen=True)
class Metric:
    """From outputs and labels to one number.

    Attributes:
        compute: takes the network's output, float32 (N, ...), and labels (N, ...); of a network with several outputs
            and no choice among them, a dict of name -> array. Further arguments are those of the recipe.
        larger_is_better: False for errors and perplexities.
        is_share: the number lies in [0, 1] and is shown as a percentage.
        details: parts of the number by name, such as the recall of every class; takes what `compute` takes.
        of_details: the number from its details, where it follows from them: then both are computed at once.
    """

    compute: Callable[..., float]
    larger_is_better: bool = True
    is_share: bool = True
    details: Callable[..., Mapping[str, float]] | None = None
    of_details: Callable[[Mapping[str, float]], float] | None = None

    def __call__(self, outputs: Outputs, labels: Labels) -> float:
        """The number; `compute` is called."""
        return self.compute(outputs, labels)

    def with_details(self, outputs: Outputs, labels: Labels) -> tuple[float, Mapping[str, float]]:
        """The number and its details, which are empty where it has none."""
        if self.details is None:
            return self(outputs, labels), {}
        found = self.details(outputs, labels)
        return self(outputs, labels) if self.of_details is None else self.of_details(found), found


def mean_of_classes(details: Mapping[str, float]) -> float:
    """Mean of the details `class <index>`."""
    return float(np.mean([value for name, value in details.items() if name.startswith("class ")]))


def counted_classes(outputs: Floats, labels: Labels, metric: str) -> tuple[Floats, Integers]:
    """The rows of `outputs` (..., C) that count, and their labels as integers, of one shape but for the last axis.

    Of a sequence, positions whose label is -1 do not count, as in the loss that it is trained with: every sample has a
    class, not every position.

    Raises:
        DataError: labels are not integers, have another shape than `outputs` without its last axis, or lie outside
            0 to C - 1, in which case it names the first such sample; or none counts.
    """
    where = f"metric {metric}"
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"labels are {labels.dtype}, and classes are integers",
            where,
            "give integer labels, or choose a metric of numbers such as mse",
        )
    if outputs.ndim < 2 or labels.shape != outputs.shape[:-1]:
        raise DataError(
            f"labels {labels.shape} for outputs {outputs.shape}",
            where,
            "give one label for each row of scores, and let the network answer one score for each class",
        )
    check_range(labels, outputs.shape[-1], where, lowest=IGNORED if labels.ndim > 1 else 0)
    counted = labels != IGNORED
    if not counted.any():
        raise DataError("every label is -1, which does not count", where, "give the split labels")
    wanted = labels.astype(np.int64)
    return (outputs, wanted) if counted.all() else (outputs[counted], wanted[counted])


def check_range(labels: Labels, classes: int, where: str, lowest: int = 0) -> None:
    """Refuse a label outside `lowest` to `classes` - 1, and an empty set of them.

    Raises:
        DataError: names the first such sample, counted from 0, and its label.
    """
    if not labels.size:
        raise DataError("there are no samples", where, "give the split samples")
    wrong = np.argwhere((labels < lowest) | (labels >= classes))
    if len(wrong):
        first = tuple(wrong[0].tolist())
        place = f"sample {first[0]}" + (f", position {', '.join(map(str, first[1:]))}" if len(first) > 1 else "")
        raise DataError(
            f"label {labels[first]} of {place} is outside 0 to {classes - 1}",
            where,
            f"the network answers {classes} classes: correct the labels, or the number of classes of the network",
        )
