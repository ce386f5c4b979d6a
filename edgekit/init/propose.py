"""From what was seen to what a recipe and its calibration set should say, with the reason of each as a comment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from edgekit.errors import DataError
from edgekit.init.facts import Answer, ArrayFacts, LabelFacts, NetworkFacts, PartFacts, Question
from edgekit.schema.tensors import DType

_CALIBRATION, _MOST_SELECTION, _LEAST = 256, 2000, 12  # samples
_SELECTION_RATIO, _TEST_RATIO = 0.1, 0.2
_LARGEST_BATCH, _BATCHES = 64, 8  # an epoch has at least so many steps
_EPOCHS, _STEPS = (20, 100), 600  # as many epochs as make so many steps, within these bounds


@dataclass(frozen=True)
class Proposal:
    """What will be written.

    Attributes:
        splits: of the calibration set, by name; empty where the data come from a function.
        order: that parts are put into before they are split.
        loss: empty: the one that `train` has anyway.
        trains: whether the recipe has a step `train`.
        optional: what the factory may also be called with.
        notes: what the user should know before the first build.
    """

    question: Question
    network: NetworkFacts
    splits: Mapping[str, Mapping[str, Any]]
    order: str
    preprocess: Mapping[str, Any]
    metric: str
    loss: str
    trains: bool
    batch_size: int
    epochs: int
    optional: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def propose(question: Question, answer: Answer, metric: str | None = None, loss: str | None = None) -> Proposal:
    """A recipe that builds.

    Args:
        metric, loss: what the user says; None: what labels and outputs suggest.

    Raises:
        DataError: too few samples, labels that the network cannot answer, or nothing suggests a metric.
    """
    parts = {part.name: part for part in answer.parts}
    first = answer.parts[0]
    least = min(part.count for part in answer.parts)
    if sum(part.count for part in answer.parts) < _LEAST:
        raise DataError(f"{least} samples", f"part {first.name}", f"give at least {_LEAST}")
    suggested = _task(answer.network, first.labels) if metric is None else (metric, "")
    splits, order, notes = ({}, "stored", []) if question.data is not None else _splits(parts)
    trained_on = parts.get("train", first).count
    batch_size = max(1, min(_LARGEST_BATCH, 1 << int(math.log2(max(1, trained_on // _BATCHES)))))
    wanted = math.ceil(_STEPS * batch_size / trained_on)
    return Proposal(
        question=question,
        network=answer.network,
        splits=splits,
        order=order,
        preprocess={} if question.data is not None else _preprocess(answer.network, first.inputs[0]),
        metric=suggested[0],
        loss=suggested[1] if loss is None else loss,
        trains=question.checkpoint is None and question.file is None and (question.data is None or "train" in parts),
        batch_size=batch_size,
        epochs=max(_EPOCHS[0], min(_EPOCHS[1], wanted)),
        notes=tuple(notes),
    )


def _task(network: NetworkFacts, labels: LabelFacts) -> tuple[str, str]:
    """Metric and loss that fit."""
    shapes = list(network.outputs.values())
    told = ", ".join(f"{name} {shape}" for name, shape in network.outputs.items())
    if len(shapes) == 1 and labels.kind == "classes" and not labels.shape and len(shapes[0]) == 2:
        classes = shapes[0][1]
        if classes > 1:
            if not 0 <= labels.low <= labels.high < classes:
                raise DataError(
                    f"labels are {labels.low:g} to {labels.high:g}, and the network answers {classes} classes",
                    f"output {told}",
                    "count classes from 0, or give the network as many outputs as there are classes",
                )
            return "top1", ""
    if len(shapes) == 1 and labels.kind == "numbers" and math.prod(shapes[0][1:]) == math.prod(labels.shape):
        return "mse", "mse"
    kind = "integers" if labels.kind == "classes" else "numbers"
    raise DataError(
        f"labels are {kind} of shape {('N', *labels.shape)} for outputs {told}: no metric is known for that",
        "metric",
        "say it: --metric NAME or package.module:function, and --loss where it trains",
    )


def _preprocess(network: NetworkFacts, array: ArrayFacts) -> dict[str, Any]:
    if array.dtype not in get_args(DType):
        raise DataError(f"inputs are {array.dtype}", "data", f"save them as one of {', '.join(get_args(DType))}")
    way = network.way
    found: dict[str, Any] = {"raw_dtype": array.dtype, "raw_layout": way.raw_layout}
    if way.resize is not None:
        found["resize"] = list(way.resize)
    if array.dtype == "uint8":
        found["factor"] = 1 / _full_scale(array.high)
    elif array.dtype in ("int8", "int16"):
        found["factor"] = 1 / (128 if array.dtype == "int8" else 32768)
    if way.raw_layout != "N" and way.layout != "NCHW":
        found["layout"] = way.layout
    return found


def _full_scale(high: float) -> float:
    """255, or the power of two that small values end at: digits of a scanner with 17 greys end at 16."""
    return 255.0 if high > 64 else float(1 << max(0, math.ceil(math.log2(max(high, 1.0)))))


def _splits(parts: Mapping[str, PartFacts]) -> tuple[dict[str, dict[str, Any]], str, list[str]]:
    """Splits that share no sample, but for calibration, which may be of what is trained on; the order; what to know."""
    notes: list[str] = []
    if "test" in parts and len(parts) > 1:
        own = parts.get("train") or next(part for part in parts.values() if part.name != "test")
        splits = _beside_test(own, "selection" in parts)
        sorted_by_class = own.labels.in_order and "selection" not in parts
    else:
        own = next(iter(parts.values()))
        splits, note = _of_one(own)
        notes.append(note)
        sorted_by_class = True  # or by something else: nobody knows, and mixing costs nothing
    order = "stored"
    if sorted_by_class:
        order = "stratified" if own.labels.kind == "classes" and not own.labels.shape else "shuffled"
        notes.append(f"part {own.name} is {order} before it is split" + _why(own.labels))
    if "calibration" in parts:
        splits["calibration"] = {"part": "calibration"}
    else:
        available = splits["train"].get("count", own.count)
        count = min(_CALIBRATION, available)
        step = max(1, available // count)
        splits["calibration"] = {"part": own.name, "count": count, **({"step": step} if step > 1 else {})}
    return {name: splits[name] for name in ("train", "calibration", "selection", "test")}, order, notes


def _why(labels: LabelFacts) -> str:
    return ": its labels stand in order" if labels.in_order else ""


def _beside_test(part: PartFacts, has_selection: bool) -> dict[str, dict[str, Any]]:
    if has_selection:
        return {"train": {"part": part.name}, "selection": {"part": "selection"}, "test": {"part": "test"}}
    kept = part.count - _selection(part.count)
    return {
        "train": {"part": part.name, "count": kept},
        "selection": {"part": part.name, "start": kept},
        "test": {"part": "test"},
    }


def _of_one(part: PartFacts) -> tuple[dict[str, dict[str, Any]], str]:
    test, selection = max(1, int(part.count * _TEST_RATIO)), _selection(part.count)
    kept = part.count - test - selection
    splits = {
        "train": {"part": part.name, "count": kept},
        "selection": {"part": part.name, "start": kept, "count": selection},
        "test": {"part": part.name, "start": kept + selection},
    }
    return splits, f"part {part.name} is the only one: {test} of its samples are kept for the test"


def _selection(count: int) -> int:
    return max(1, min(_MOST_SELECTION, int(count * _SELECTION_RATIO)))
