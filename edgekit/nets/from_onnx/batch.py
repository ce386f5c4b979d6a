"""Shapes that a file holds for one batch, read for any batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgekit.nets.from_onnx.network import PerSample
from edgekit.nets.from_onnx.untaken import UntakenError

Shape = tuple[int, ...]


def reshaped(
    shapes: tuple[Shape, Shape],
    target: Sequence[int | PerSample],
    batches: tuple[int, int],
    *,
    slower: int = 1,
    one_batch: bool = True,
    keep_zero: bool = False,
) -> tuple[tuple[int | PerSample, ...], int]:
    """Target of a reshape at any batch, from ONNX's: 0 copies a size, -1 is what is left.

    A target of fixed numbers for an input that grows with the batch is one that was written for `batches[0]`: the side
    that the batch is in is found by where the batch stands in the input. Which of several it is shows in what the
    network computes at another batch, and that is compared afterwards.

    Args:
        shapes: of the input at both batches.
        slower: steps of the axis that holds the batch before the sample changes; 1 where it is the axis of samples.
        one_batch: the file was written for one batch, so its -1 may stand in the wrong place for another.
        keep_zero: a 0 is a size of 0.

    Returns:
        The target, and `slower` of its result.

    Raises:
        UntakenError: no side of the target can hold the batch.
    """
    first, second = (_resolve(shape, target, b, keep_zero) for shape, b in zip(shapes, batches, strict=True))
    if first is None:
        raise UntakenError(f"{list(shapes[0])} cannot be reshaped to {_show(target)}")
    moved = [i for i, (a, b) in enumerate(zip(*shapes, strict=True)) if a != b]
    free = any(isinstance(size, PerSample) for size in target) or not moved
    fits = second is not None and (free or (not one_batch and _keeps_batch(first, second, target)))
    if second is None or not fits:
        second, slower = _with_batch(shapes[0], first, moved[0], batches, slower)
    differ = [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
    if len(differ) == 1:  # every other side is fixed, so this one is what is left: no runtime needs the batch for it
        return tuple(-1 if i in differ else size for i, size in enumerate(first)), slower
    grown = tuple(
        PerSample(b - a, a - (b - a) * batches[0]) if a != b else a for a, b in zip(first, second, strict=True)
    )
    return grown, slower


def _resolve(shape: Shape, target: Sequence[int | PerSample], batch: int, keep_zero: bool) -> Shape | None:
    """The shape that a target means for an input; None where the numbers do not fit."""
    sizes = [size.at(batch) if isinstance(size, PerSample) else size for size in target]
    if not keep_zero:
        if any(size == 0 and i >= len(shape) for i, size in enumerate(sizes)):
            return None
        sizes = [shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    total, rest = math.prod(shape), math.prod(size for size in sizes if size != -1)
    if -1 in sizes:
        if not rest or total % rest:
            return None
        sizes[sizes.index(-1)] = total // rest
    return tuple(sizes) if math.prod(sizes) == total else None


def _keeps_batch(first: Shape, second: Shape, target: Sequence[int | PerSample]) -> bool:
    """Whether what grows with the batch stands where a batch may: not behind a side that is fixed to 1 at the front."""
    grown = [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
    return not (grown and grown[0] > 0 and target[0] == 1 and first[0] == 1)


def _with_batch(shape: Shape, first: Shape, axis: int, batches: tuple[int, int], slower: int) -> tuple[Shape, int]:
    """`first`, the shape at the first batch, at a batch one larger; and steps of that side before the sample changes.

    Numbers keep their order, so as many stand before a change of sample as did in the input. Where sides of 1 leave a
    choice: a side of the batch alone, then any side but the last, which holds features, then what leaves the sides
    behind as they were.
    """
    batch = batches[0]
    before, behind = math.prod(shape[:axis]) * slower, shape[axis + 1 :]
    choices = []
    for i, size in enumerate(first):
        ahead = math.prod(first[:i])
        inside = before // ahead if ahead and before % ahead == 0 else 0
        if not inside or size % (inside * batch):
            continue
        alike = 0
        while alike < min(len(behind), len(first) - i - 1) and first[-1 - alike] == behind[-1 - alike]:
            alike += 1
        alone = size == batch and inside == 1
        choices.append((alone, i < len(first) - 1, alike, inside == 1, -i, i, inside))
    if not choices:
        raise UntakenError(f"{list(shape)} is reshaped to {list(first)}, in which no side can be the batch")
    chosen, inside = max(choices)[-2:]
    return tuple(size // batch * (batch + 1) if i == chosen else size for i, size in enumerate(first)), inside


def _show(target: Sequence[int | PerSample]) -> str:
    return str([f"{size.each} x batch" if isinstance(size, PerSample) else size for size in target])
