"""Metrics of classes: whose score is largest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.data.metrics.metric import Floats, Labels, counted_classes, mean_of_classes
from edgekit.errors import DataError


def top1(outputs: Floats, labels: Labels) -> float:
    """Share of rows of `outputs` (..., C) whose largest entry is at `labels` (...).

    Of equal entries the first counts as the larger. A row that holds NaN is wrong. Positions of a sequence whose label
    is -1 do not count.

    Raises:
        DataError: labels do not fit the outputs.
    """
    return float(_hits(*counted_classes(outputs, labels, "top1"), 1).mean())


def top5(outputs: Floats, labels: Labels) -> float:
    """Share of rows of `outputs` (..., C) that have `labels` (...) among their five largest entries, else as `top1`."""
    return float(_hits(*counted_classes(outputs, labels, "top5"), 5).mean())


def top_k(outputs: Floats, labels: Labels, *, k: int) -> float:
    """Share of rows of `outputs` (..., C) that have `labels` (...) among their `k` largest entries, else as `top1`.

    Args:
        k: 1 at least.

    Raises:
        DataError: labels do not fit the outputs, or `k` is no count.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise DataError(f"k is {k!r}", "metric top_k, arguments", "give a whole number, 1 at least")
    return float(_hits(*counted_classes(outputs, labels, "top_k"), k).mean())


def per_class(outputs: Floats, labels: Labels) -> float:
    """Mean over the classes that occur in `labels` of the share of their samples that `top1` has right.

    Also called balanced accuracy: a class of three samples counts as much as one of three thousand.
    """
    return mean_of_classes(class_recalls(outputs, labels))


def class_recalls(outputs: Floats, labels: Labels) -> dict[str, float]:
    """`class <index>` -> share of its samples that `top1` has right, of every class that occurs."""
    rows, wanted = counted_classes(outputs, labels, "per_class")
    hits = _hits(rows, wanted, 1)
    return {f"class {label}": float(hits[wanted == label].mean()) for label in np.unique(wanted).tolist()}


def auc(outputs: Floats, labels: Labels) -> float:
    """Area under the ROC curve: how probably a sample of label 1 scores higher than one of label 0, ties counted half.

    Args:
        outputs: score of label 1, (N,) or (N, 1); or (N, 2) logits, whose difference is the score.
        labels: (N,) or (N, 1), 0 or 1.

    Raises:
        DataError: other shapes, other labels, or only one of the two labels.

    Source: the Mann-Whitney statistic by mean ranks; Hanley and McNeil, Radiology 143, 1982.
    """
    where, wanted = "metric auc", labels.reshape(len(labels), -1)
    scores = outputs.reshape(len(outputs), -1)
    if scores.shape[1:] not in ((1,), (2,)) or wanted.shape != (len(scores), 1):
        raise DataError(
            f"labels {labels.shape} for outputs {outputs.shape}",
            where,
            "give one label, and let the network answer one score or two logits, for each sample",
        )
    score = scores[:, -1].astype(np.float64) - (scores[:, 0] if scores.shape[1] == 2 else 0.0)
    label = wanted[:, 0]
    strange = np.flatnonzero((label != 0) & (label != 1))
    if len(strange):
        raise DataError(
            f"label {label[strange[0]]} of sample {strange[0]} is neither 0 nor 1",
            where,
            "give 1 to what is looked for",
        )
    positives = int((label == 1).sum())
    negatives = len(label) - positives
    if not positives or not negatives:
        raise DataError(
            f"{positives} samples have label 1 and {negatives} label 0", where, "give the split samples of both"
        )
    if np.isnan(score).any():
        return float("nan")
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # mean rank of equal scores, from 1 on
    wins = ranks[place][label == 1].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * negatives))


def _hits(outputs: Floats, labels: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    if k == 1:
        right = outputs.argmax(-1) == labels
    else:
        right = (np.argsort(-outputs, axis=-1, kind="stable")[..., :k] == labels[..., None]).any(-1)
    return np.asarray(right & ~np.isnan(outputs).any(-1))
