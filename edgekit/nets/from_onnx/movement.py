"""Rows for operators that move numbers: shapes, pieces, pads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.nets.from_onnx.batch import reshaped
from edgekit.nets.from_onnx.fold import Known
from edgekit.nets.from_onnx.graph import Operator, Ref, Value
from edgekit.nets.from_onnx.network import Argument, PerSample, Sizes
from edgekit.nets.from_onnx.reductions import axes_of
from edgekit.nets.from_onnx.untaken import UntakenError


def reshape(op: Operator) -> Any:
    """Reshape: a target that was fixed for one batch is read for any batch."""
    target = op.sizes(1)
    shapes = (op.shape(0), next_shape(op, 0))
    value = op.value(0)
    slower = value.slower if isinstance(value, Ref) else 1
    keep_zero = bool(op.attribute("allowzero", 0))
    one_batch = op.bench.one_batch
    sizes, slower = reshaped(shapes, target, op.bench.batches, slower=slower, one_batch=one_batch, keep_zero=keep_zero)
    if sizes == (-1, math.prod(op.shape(0)[1:])) and op.rank(0) > 1 and _batch_axes(value) == {0}:
        return op.layer(nn.Flatten(1), op.tensor(0))
    return replace(op.apply(_reshape, op.tensor(0), Sizes(sizes)), slower=slower)


def next_shape(op: Operator, i: int) -> tuple[int, ...]:
    """Shape of the i-th input at a batch one larger."""
    value = op.value(i)
    return value.next_shape if isinstance(value, Ref) else tuple(value.at[1].shape)


def _reshape(x: Tensor, sizes: Sequence[int]) -> Tensor:
    return x.reshape(sizes)


def flatten(op: Operator) -> Any:
    """Flatten into two axes."""
    rank = op.rank(0)
    axis = op.attribute("axis", 1)
    axis = axis + rank if axis < 0 else axis
    if axis == 1:
        return op.layer(nn.Flatten(1), op.tensor(0)) if rank > 1 else op.apply(torch.unsqueeze, op.tensor(0), dim=1)
    if axis == 0:
        return op.apply(_reshape, op.tensor(0), Sizes((1, -1)))
    return op.apply(_flatten, op.tensor(0), axis=axis)


def _flatten(x: Tensor, axis: int) -> Tensor:
    return x.flatten(0, axis - 1).flatten(1) if axis < x.dim() else x.flatten().unsqueeze(1)


def transpose(op: Operator) -> Any:
    """Transpose; without a permutation the axes are turned round."""
    order = op.attribute("perm") or list(reversed(range(op.rank(0))))
    return op.apply(torch.permute, op.tensor(0), dims=tuple(order))


def squeeze(op: Operator) -> Any:
    """Squeeze: axes as an attribute before operator set 13, then as an input."""
    rank = op.rank(0)
    axes = axes_of(op)
    if axes is None:
        both = zip(op.shape(0), next_shape(op, 0), strict=True)
        axes = [axis for axis, sizes in enumerate(both) if sizes == (1, 1)]
    return op.apply(torch.squeeze, op.tensor(0), dim=tuple(sorted(axis % rank for axis in axes)))


def unsqueeze(op: Operator) -> Any:
    """Unsqueeze: axes count in the result."""
    axes = axes_of(op) or []
    rank = op.rank(0) + len(axes)
    return op.apply(_unsqueeze, op.tensor(0), axes=tuple(sorted(axis % rank for axis in axes)))


def _unsqueeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    for axis in axes:
        x = x.unsqueeze(axis)
    return x


def concat(op: Operator) -> Any:
    """Concat: a part that a file stores for one sample, such as a class token, is repeated for the batch."""
    axis = op.attribute("axis", 1) % op.rank(0)
    batched = {i: found for i in range(len(op.inputs)) if (found := _batch_axes(op.value(i)) - {axis})}
    parts: list[Argument | Ref] = []
    for i in range(len(op.inputs)):
        if batched and i not in batched:
            wanted = next(iter(batched.values()))
            sizes = tuple(
                PerSample(1) if a in wanted and size == op.bench.batches[0] else size
                for a, size in enumerate(op.shape(i))
            )
            parts.append(op.layer(Expand(), op.tensor(i), Sizes(sizes), part=f"batch{i}"))
        else:
            parts.append(op.tensor(i))
    return op.apply(_concat, *parts, axis=axis)


def _batch_axes(value: Value) -> set[int]:
    return set(value.batch_axes) if isinstance(value, Ref) else set()


def _concat(*parts: Tensor, axis: int) -> Tensor:
    return torch.cat(parts, axis)


def split(op: Operator) -> Any:
    """Split: sizes as an attribute before operator set 13, then as an input, or a number of equal parts."""
    axis = op.attribute("axis", 0) % op.rank(0)
    length, count = op.shape(0)[axis], len(op.outputs)
    sizes = op.ints(1) if op.has(1) else list(op.attribute("split") or [])
    if not sizes:
        size = math.ceil(length / (op.attribute("num_outputs") or count))
        sizes = [min(size, length - start) for start in range(0, length, size)]
    return op.layer(Split(sizes, axis), op.tensor(0), outputs=count) if count > 1 else op.value(0)


class Split(nn.Module):
    """A tensor in pieces along an axis."""

    def __init__(self, sizes: Sequence[int], axis: int) -> None:
        super().__init__()
        self.sizes, self.axis = list(sizes), axis

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The pieces in order."""
        return torch.split(x, self.sizes, self.axis)


class Expand(nn.Module):
    """A tensor repeated along axes of size 1."""

    def forward(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """`x` with `sizes`, where it may also have the same or more axes."""
        return x.expand(torch.broadcast_shapes(x.shape, tuple(sizes)))  # type: ignore[no-untyped-call]


def expand(op: Operator) -> Any:
    """Expand: both ways, as ONNX broadcasts; a size fixed for one sample is that of every sample."""
    sizes = op.sizes(1)
    batch = op.bench.batches[0]
    if sizes and sizes[0] == batch and len(sizes) >= op.rank(0) and _batch_axes(op.value(0)) == {0}:
        sizes = (PerSample(1), *sizes[1:]) if len(sizes) == op.rank(0) else sizes
    value = op.value(0)
    zero = value.zero if isinstance(value, Ref) else value.plain and not value.at[0].any()
    return replace(op.layer(Expand(), op.tensor(0), Sizes(sizes)), zero=zero)


def tile(op: Operator) -> Any:
    """Tile."""
    return op.apply(_tile, op.tensor(0), Sizes(op.sizes(1)))


def _tile(x: Tensor, counts: Sequence[int]) -> Tensor:
    return x.repeat(*counts)


def slices(op: Operator) -> Any:
    """Slice: bounds as attributes before operator set 10, then as inputs; negative steps turn the axis round."""
    rank = op.rank(0)
    if op.opset >= 10:
        starts, ends = op.sizes(1), op.sizes(2)
        axes = op.ints(3) if op.has(3) else list(range(len(starts)))
        steps = op.ints(4) if op.has(4) else [1] * len(starts)
    else:
        starts, ends = tuple(op.attribute("starts")), tuple(op.attribute("ends"))
        axes, steps = list(op.attribute("axes") or range(len(starts))), [1] * len(starts)
    axes = [axis % rank for axis in axes]
    return op.apply(_slice, op.tensor(0), Sizes(starts), Sizes(ends), axes=tuple(axes), steps=tuple(steps))


def _slice(x: Tensor, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]) -> Tensor:
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis]
        places = range(size)[start:end:step]
        if step > 0:
            x = x[(slice(None),) * axis + (slice(start, min(end, size), step),)] if len(places) != size else x
        elif places == range(size)[::-1]:
            x = x.flip(axis)
        else:
            x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64, device=x.device))
    return x


def pad(op: Operator) -> Any:
    """Pad: amounts as an attribute before operator set 11, then as an input, for some axes or all."""
    rank, mode = op.rank(0), op.attribute("mode", "constant")
    amounts = op.ints(1) if op.has(1) else [int(x) for x in op.attribute("pads") or op.attribute("paddings")]
    value = op.number(2) if op.has(2) else op.attribute("value", 0.0)
    if value is None:
        raise UntakenError("what it pads with is not one number")
    axes = [axis % rank for axis in op.ints(3)] if op.has(3) else list(range(rank))
    half = len(amounts) // 2
    sides = {axis: (amounts[k], amounts[half + k]) for k, axis in enumerate(axes)}
    if not any(any(pair) for pair in sides.values()):
        return op.value(0)
    first = min(axis for axis, pair in sides.items() if any(pair))
    flat = [side for axis in reversed(range(first, rank)) for side in sides.get(axis, (0, 0))]
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in modes:
        raise UntakenError(f"mode {mode!r}")
    if mode != "constant" and any(amount < 0 for amount in flat):
        raise UntakenError(f"it crops in mode {mode!r}")
    if mode == "constant" and value == 0 and len(flat) == 4 and rank == 4 and min(flat) >= 0:
        return op.layer(nn.ZeroPad2d(tuple(flat)), op.tensor(0))  # type: ignore[arg-type]
    options: dict[str, Any] = {"value": value} if mode == "constant" else {}
    if mode != "constant" and len(flat) > 2 * (rank - 2):
        raise UntakenError(f"mode {mode!r} over the batch or the channels")
    return op.apply(functional.pad, op.tensor(0), pad=flat, mode=modes[mode], **options)


def depth_to_space(op: Operator) -> Any:
    """DepthToSpace in both orders."""
    block, columns_first = op.attribute("blocksize"), op.attribute("mode", "DCR") == "CRD"
    if columns_first:
        return op.layer(nn.PixelShuffle(block), op.tensor(0))
    return op.apply(_depth_to_space, op.tensor(0), block=block)


def _depth_to_space(x: Tensor, block: int) -> Tensor:
    n, c, h, w = x.shape
    moved = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return moved.reshape(n, c // block**2, h * block, w * block)


def space_to_depth(op: Operator) -> Any:
    """SpaceToDepth."""
    return op.apply(_space_to_depth, op.tensor(0), block=op.attribute("blocksize"))


def _space_to_depth(x: Tensor, block: int) -> Tensor:
    n, c, h, w = x.shape
    moved = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return moved.reshape(n, c * block**2, h // block, w // block)


def shape(op: Operator) -> Known:
    """Shape: known from the inputs' shapes; grows with the batch."""
    start, end = op.attribute("start", 0), op.attribute("end")
    return _known(op, [op.shape(0)[start:end], next_shape(op, 0)[start:end]])


def size(op: Operator) -> Known:
    """Size: how many numbers."""
    return _known(op, [math.prod(op.shape(0)), math.prod(next_shape(op, 0))])


def _known(op: Operator, pair: Sequence[Any]) -> Known:
    first, second = (np.asarray(value, dtype=np.int64) for value in pair)
    return Known((first, first if np.array_equal(first, second) else second))


def constant_of_shape(op: Operator) -> Any:
    """ConstantOfShape where the shape grows with the batch; every other one is computed beforehand."""
    value = op.attribute("value")
    number = 0.0 if value is None else value.reshape(-1)[0].item()
    dtype = torch.float32 if value is None else torch.from_numpy(np.array(value)).dtype
    return replace(op.apply(_full, Sizes(op.sizes(0)), value=number, dtype=dtype), zero=number == 0)


def _full(sizes: Sequence[int], value: float, dtype: torch.dtype) -> Tensor:
    return torch.full(tuple(sizes), value, dtype=dtype)
