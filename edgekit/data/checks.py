"""What is checked of samples before anything is made of them: that they are parts, finite, and of the classes named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.data.samples import RawSamples
from edgekit.errors import DataError

_AT_ONCE = 1 << 22  # values looked at, which bounds the memory of a check


def checked_parts(result: object, where: str) -> dict[str, RawSamples]:
    """What a loader or a user's function returned, as parts of samples.

    Raises:
        DataError: it is no dict of pairs, or a pair does not fit together.
    """
    if not isinstance(result, Mapping):
        raise DataError(f"the loader returned {type(result).__name__}", where, "return a dict of parts")
    parts = {}
    for name, value in result.items():
        pair: Any = (value.inputs, value.labels) if isinstance(value, RawSamples) else value
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise DataError(f"is {type(value).__name__}", f"{where}, part {name}", "give a pair: inputs, labels")
        given = pair[0] if isinstance(pair[0], tuple) else (pair[0],)
        inputs = [np.asarray(array) for array in given]
        parts[str(name)] = samples_of(inputs, np.asarray(pair[1]), f"{where}, part {name}")
    return parts


def samples_of(inputs: Sequence[NDArray[Any]], labels: NDArray[Any], where: str) -> RawSamples:
    """One part, its labels int64 or float32.

    Raises:
        DataError: labels are neither, an array has another count of samples, or there is no input.
    """
    counts = {len(array) if array.ndim else -1 for array in (*inputs, labels)}
    if not inputs or labels.dtype.kind not in "iuf" or len(counts) != 1 or -1 in counts:
        raise DataError(
            f"labels are {labels.dtype} {labels.shape} for inputs {', '.join(str(array.shape) for array in inputs)}",
            where,
            "give labels of integers or floats, one row for each sample",
        )
    return RawSamples(tuple(inputs), labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64))


def check_finite(samples: RawSamples, origin: Sequence[int], where: str) -> None:
    """Refuse a sample or a label that holds NaN or an infinity.

    Args:
        origin: place of every sample in what was loaded, which is what the message names.

    Raises:
        DataError: names the first such sample.
    """
    named = [("inputs" if len(samples.inputs) == 1 else f"input {i}", own) for i, own in enumerate(samples.inputs)]
    for name, array in (*named, ("labels", samples.labels)):
        bad = _not_finite(array)
        if bad is not None:
            raise DataError(
                f"sample {origin[bad]} of {name} holds a value that is NaN or infinite",
                where,
                "correct that sample, or leave it out; a missing measurement needs a number in its place",
            )


def check_named_classes(samples: RawSamples, classes: Sequence[str], origin: Sequence[int], where: str) -> None:
    """Refuse a label that none of the set's class names stands for; labels that are no classes pass.

    Args:
        origin: place of every sample in what was loaded, which is what the message names.

    Raises:
        DataError: names the first such sample and its label.
    """
    labels = samples.labels
    if not classes or labels.ndim != 1 or labels.dtype.kind not in "iu":
        return
    bad = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(bad):
        raise DataError(
            f"label {labels[bad[0]]} of sample {origin[bad[0]]}, and there are {len(classes)} classes, from 0 on",
            where,
            "correct the label, or name every class in `classes`",
        )


def _not_finite(array: NDArray[Any]) -> int | None:
    """Index of the first sample that is not finite."""
    if array.dtype.kind != "f" or not array.size:
        return None
    rows = max(1, _AT_ONCE * len(array) // array.size)
    for start in range(0, len(array), rows):
        finite = np.isfinite(array[start : start + rows].reshape(len(array[start : start + rows]), -1)).all(1)
        if not finite.all():
            return start + int(np.argmin(finite))
    return None
