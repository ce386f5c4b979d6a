"""The metric of detectors: mean average precision as COCO counts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.data.metrics.metric import Floats, Labels, mean_of_classes
from edgekit.errors import DataError

_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_MOST = 100  # detections of one class in one image that count, those of highest score

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class _Matched:
    """Detections of one class in one image, by falling score: (D,) scores, and (T, D) whether each is right."""

    scores: Reals
    right: NDArray[np.bool_]


def map50_95(outputs: Floats, labels: Labels) -> float:
    """Mean of the average precision over classes that occur in `labels` and over IoU 0.5, 0.55, ... 0.95.

    As COCO counts: in every image, detections of a class in falling order of score, 100 at most, each take the box of
    largest IoU that is not taken yet, if that IoU reaches the threshold. Precision is made to fall with recall, then
    read at 101 recalls. There are no crowds and no ranges of area here.

    Args:
        outputs: detections (N, M, 6), rows of x_min, y_min, x_max, y_max, score, class; a score that is not above 0
            fills the row.
        labels: boxes (N, K, 5), rows of class, x_min, y_min, x_max, y_max; class -1 fills the row.

    Raises:
        DataError: other shapes, a box that ends before it begins, or no box at all.

    Source: Lin et al., arXiv:1405.0312, and the evaluation code of its data set.
    """
    return mean_of_classes(average_precisions(outputs, labels))


def average_precisions(outputs: Floats, labels: Labels) -> dict[str, float]:
    """`ap50` and `ap75`, the mean over classes at one IoU, and `class <index>` -> its mean over all ten."""
    found = _by_class(outputs, labels)
    table = np.stack(list(found.values()))  # (C, T)
    at = {f"ap{threshold}": float(table[:, index].mean()) for threshold, index in ((50, 0), (75, 5))}
    return at | {f"class {label}": float(precisions.mean()) for label, precisions in found.items()}


def _by_class(outputs: Floats, labels: Labels) -> dict[int, Reals]:
    """(T,) average precisions of every class that occurs."""
    _check(outputs, labels)
    found = {}
    for label in sorted({int(value) for value in np.unique(labels[..., 0]) if value >= 0}):
        images, boxes = [], 0
        for rows, truth in zip(outputs, labels, strict=True):
            wanted = truth[truth[:, 0] == label, 1:].astype(np.float64)
            given = rows[(rows[:, 5] == label) & (rows[:, 4] > 0)].astype(np.float64)
            boxes += len(wanted)
            if len(given):
                images.append(_match(given[np.argsort(-given[:, 4], kind="stable")[:_MOST]], wanted))
        found[label] = _average_precisions(images, boxes)
    return found


def _match(given: Reals, wanted: Reals) -> _Matched:
    """Greedy matching at every threshold; `given` (D, 6) in falling order of score, `wanted` (G, 4)."""
    right = np.zeros((len(_THRESHOLDS), len(given)), bool)
    if len(wanted):
        overlaps = _ious(given[:, :4], wanted)
        free = np.ones((len(_THRESHOLDS), len(wanted)), bool)
        for index in np.flatnonzero(overlaps.max(1) >= _THRESHOLDS[0]):
            reached = np.where(free & (overlaps[index] >= _THRESHOLDS[:, None]), overlaps[index], -1.0)
            best = len(wanted) - 1 - reached[:, ::-1].argmax(1)  # of equal ones the last, as COCO takes it
            hit = np.flatnonzero(reached[np.arange(len(best)), best] >= 0)
            right[hit, index] = True
            free[hit, best[hit]] = False
    return _Matched(given[:, 4], right)


def _average_precisions(images: Sequence[_Matched], boxes: int) -> Reals:
    if not images:
        return np.zeros(len(_THRESHOLDS))
    order = np.argsort(-np.concatenate([image.scores for image in images]), kind="stable")
    right = np.concatenate([image.right for image in images], axis=1)[:, order].cumsum(1)
    precision = right / np.arange(1, right.shape[1] + 1)
    falling = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.concatenate([falling, np.zeros((len(falling), 1))], axis=1)  # recalls that are never reached
    places = [np.searchsorted(row / boxes, _RECALLS, side="left") for row in right]
    return np.array([row[place].mean() for row, place in zip(padded, places, strict=True)])


def _ious(one: Reals, other: Reals) -> Reals:
    """(D, G) intersection over union; 0 where both boxes are empty."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = np.clip(high - low, 0.0, None).prod(2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None).prod(1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None] - common
    found: Reals = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return found


def _check(outputs: Floats, labels: Labels) -> None:
    where = "metric map50_95"
    if outputs.ndim != 3 or outputs.shape[2] != 6 or labels.ndim != 3 or labels.shape[2] != 5:
        raise DataError(
            f"labels {labels.shape} for outputs {outputs.shape}",
            where,
            "give boxes (N, K, 5) and detections (N, M, 6): a step `nms` of `postprocess` makes them",
        )
    if len(outputs) != len(labels):
        raise DataError(f"{len(labels)} labels for {len(outputs)} outputs", where, "give boxes for every sample")
    classes = labels[..., 0]
    ends = (labels[..., 3] < labels[..., 1]) | (labels[..., 4] < labels[..., 2])
    strange = np.argwhere((classes != np.floor(classes)) | (classes < -1) | ((classes >= 0) & ends))
    if len(strange):
        sample, row = strange[0].tolist()
        raise DataError(
            f"box {row} of sample {sample} is {labels[sample, row].tolist()}",
            where,
            "give rows of class, x_min, y_min, x_max, y_max in pixels; class -1 fills a row",
        )
    if not (classes >= 0).any():
        raise DataError("there is no box in any sample", where, "give the split labelled boxes")
