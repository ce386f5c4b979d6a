"""From a network's outputs to what a metric or an application wants: boxes, scores, shares. numpy only, one definition.

Computed in float32 behind the artifact, so no format and no quantisation ever touches any of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

import numpy as np

from edgekit.agent.errors import AgentError

if TYPE_CHECKING:
    from typing import Dict

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]
    Floats = NDArray[np.float32]
    Kind = Callable[[Mapping[str, Any], Arrays, Dict[str, Floats]], Dict[str, Floats]]


def postprocess(steps: Sequence[Mapping[str, Any]], inputs: Arrays, outputs: Arrays) -> dict[str, Floats]:
    """The outputs of a batch after every step, by name. A step takes the outputs that it names away and adds its own.

    Args:
        steps: each an edgekit.schema.postprocess.Postprocess as a dict, {kind: options}.
        inputs: (N, ...) by the network's names, as the network took them.
        outputs: (N, ...) by the network's names, floats.

    Raises:
        AgentError: a step is of no known kind, or names what is not there, or shapes do not fit.
    """
    found: dict[str, Floats] = {name: np.asarray(array, dtype=np.float32) for name, array in outputs.items()}
    for step in steps:
        ((kind, options),) = step.items()
        if kind not in KINDS:
            raise AgentError(f"no postprocessing is called {kind!r}", "postprocess", "kinds: " + ", ".join(KINDS))
        found = KINDS[kind](options or {}, inputs, found)
    return found


def iou(boxes: Floats, others: Floats) -> Floats:
    """Area of the intersection over that of the union, (A, B); 0 where neither has an area.

    Args:
        boxes: (A, 4) of x_min, y_min, x_max, y_max; one that is turned round has no area.
        others: (B, 4).
    """
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    union = _areas(boxes)[:, None] + _areas(others)[None, :] - shared
    ratio: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


def suppress(boxes: Floats, scores: Floats, iou_threshold: float) -> NDArray[np.int64]:
    """Indices of the boxes that are kept, by falling score: each drops those after it that overlap it by more.

    Of equal scores the first counts as higher. Source: greedy non-maximum suppression as torchvision.ops.nms states it.
    """
    left: NDArray[np.int64] = np.argsort(-scores, kind="stable")
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        left = left[iou(boxes[best : best + 1], boxes[left])[0] <= iou_threshold]
    return np.array(kept, dtype=np.int64)


def _nms(options: Mapping[str, Any], _inputs: Arrays, outputs: dict[str, Floats]) -> dict[str, Floats]:
    names = str(options.get("boxes", "boxes")), str(options.get("scores", "scores"))
    boxes, scores = (_named(name, outputs, "postprocess, nms", "output") for name in names)
    if boxes.ndim != 3 or boxes.shape[2] != 4 or scores.ndim != 3 or scores.shape[:2] != boxes.shape[:2]:
        raise AgentError(
            f"boxes of shape {boxes.shape} with scores of {scores.shape}",
            "postprocess, nms: {} and {}".format(*names),
            "give boxes (N, A, 4) and a score for each box and class, (N, A, C)",
        )
    for name, array in zip(names, (boxes, scores)):
        if not np.all(np.isfinite(array)):
            raise AgentError("a value is NaN or infinite", f"output {name}", "look at the network: boxes are finite")
    most = int(options.get("max_detections", 100))
    made = np.zeros((len(boxes), most, 6), dtype=np.float32)
    made[:, :, 5] = -1
    for rows, own, rated in zip(made, boxes, scores):
        best = _detections(own, rated, options)[:most]
        rows[: len(best)] = best
    rest = {name: array for name, array in outputs.items() if name not in names}
    return dict(rest, detections=made)


def _detections(boxes: Floats, scores: Floats, options: Mapping[str, Any]) -> Floats:
    """Rows of one sample by falling score, over all classes."""
    found = [np.zeros((0, 6), dtype=np.float32)]
    for index in range(scores.shape[1]):
        chosen = np.flatnonzero(scores[:, index] > np.float32(options.get("score_threshold", 0.05)))
        chosen = chosen[suppress(boxes[chosen], scores[chosen, index], float(options.get("iou_threshold", 0.5)))]
        named = np.full((len(chosen), 1), index, dtype=np.float32)
        found.append(np.concatenate([boxes[chosen], scores[chosen, index, None], named], axis=1))
    rows = np.concatenate(found)
    return rows[np.argsort(-rows[:, 4], kind="stable")]


def _reconstruction_error(options: Mapping[str, Any], inputs: Arrays, outputs: dict[str, Floats]) -> dict[str, Floats]:
    where = "postprocess, reconstruction_error"
    given = np.asarray(inputs[_only(options.get("input"), inputs, where, "input")], dtype=np.float32)
    name = _only(options.get("output"), outputs, where, "output")
    rebuilt = outputs[name]
    if given.shape != rebuilt.shape:
        raise AgentError(
            f"an output of shape {rebuilt.shape} for an input of {given.shape}",
            f"{where}: output {name}",
            "name the input that the output rebuilds; both have one shape",
        )
    squares = np.square(rebuilt - given).reshape(len(given), -1)
    error: Floats = squares.mean(axis=1, dtype=np.float64).astype(np.float32)
    rest = {other: array for other, array in outputs.items() if other != name}
    return dict(rest, score=error)


def _softmax(options: Mapping[str, Any], _inputs: Arrays, outputs: dict[str, Floats]) -> dict[str, Floats]:
    name = _only(options.get("output"), outputs, "postprocess, softmax", "output")
    powers = np.exp(outputs[name] - outputs[name].max(axis=-1, keepdims=True))
    return dict(outputs, **{name: powers / powers.sum(axis=-1, keepdims=True)})


KINDS: Mapping[str, Kind] = {"nms": _nms, "reconstruction_error": _reconstruction_error, "softmax": _softmax}


def _only(name: str | None, arrays: Arrays, where: str, noun: str) -> str:
    """`name`, or the name of the only array there is."""
    if name is None and len(arrays) == 1:
        return next(iter(arrays))
    if name is None:
        raise AgentError(
            "the network has {} {}s: {}".format(len(arrays), noun, ", ".join(arrays)),
            where,
            f"name one: `{noun}: NAME`",
        )
    _named(name, arrays, where, noun)
    return name


def _named(name: str, arrays: Arrays, where: str, noun: str) -> Any:
    if name not in arrays:
        raise AgentError(f"there is no {noun} {name!r}", where, "{}s: {}".format(noun, ", ".join(arrays)))
    return arrays[name]


def _areas(boxes: Floats) -> Floats:
    areas: Floats = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=-1)
    return areas
