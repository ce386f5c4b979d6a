"""From raw samples to what a network takes, and from there to what an artifact takes. numpy only; the one definition.

Training, boards and any other runner are tested against these functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from edgekit.agent.errors import AgentError
from edgekit.agent.mfcc import mfcc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Floats = NDArray[np.float32]


def preprocess(spec: Mapping[str, Any], raw: Array) -> Floats:
    """A batch of raw samples as the network takes it, float32, or the integers that the spec's `dtype` names.

    In this order: resize, centre crop, channel order, (x - offset) * factor, MFCC, (x - mean) / std, layout; all in
    float32 but the MFCC, and nothing is rounded back to the raw dtype on the way.

    Args:
        spec: an edgekit.schema.tensors.Preprocess as a dict.
        raw: (N, ...) in the spec's raw_dtype and raw_layout. With raw_layout `N` the samples already have the network's
            shape: offset and factor apply; what needs an axis (resize, crop, channel order, MFCC, mean, std) is
            refused.

    Raises:
        AgentError: `raw` is not what the spec says, or the spec asks for what the layout cannot give.
    """
    raw_layout, layout = str(spec["raw_layout"]), str(spec["layout"])
    if raw.dtype != np.dtype(spec["raw_dtype"]):
        raise AgentError(
            "raw samples are {}, declared as {}".format(raw.dtype, spec["raw_dtype"]),
            "preprocess, raw_dtype",
            "declare the dtype that the samples have",
        )
    _check_layout(raw, raw_layout, "preprocess, raw_layout")
    if str(spec.get("dtype", "float32")) != "float32":  # tokens and the like pass as they are
        batch = raw.astype(np.dtype(spec["dtype"]))
        wanted = raw_layout if raw_layout == "N" else layout
        return np.ascontiguousarray(relayout(batch, raw_layout, wanted, "preprocess, layout"))
    batch = raw.astype(np.float32)
    if raw_layout == "N":
        for key in ("resize", "crop", "reverse_channels", "mfcc", "mean", "std"):
            if spec.get(key):
                raise AgentError(
                    f"{key} needs to know the axes of a sample",
                    "preprocess, raw_layout N",
                    "declare the layout of the raw samples",
                )
    if spec.get("resize"):
        batch = resize_to(spec["resize"], batch, raw_layout)
    if spec.get("crop"):
        height, width = spec["crop"]
        batch = centre_crop(batch, raw_layout, int(height), int(width))
    if spec.get("reverse_channels"):
        batch = _reversed_channels(batch, raw_layout)
    batch = (batch - np.float32(spec.get("offset", 0.0))) * np.float32(spec.get("factor", 1.0))
    if spec.get("mfcc"):
        if raw_layout != "NT":
            raise AgentError(
                f"mfcc of samples in layout {raw_layout}",
                "preprocess, raw_layout",
                "declare recordings of one channel, NT",
            )
        batch, raw_layout = mfcc(spec["mfcc"], batch), "NTC"
    if spec.get("mean"):
        batch = batch - _per_channel(spec["mean"], batch, raw_layout, "mean")
    if spec.get("std"):
        batch = batch / _per_channel(spec["std"], batch, raw_layout, "std")
    if raw_layout != "N":
        batch = relayout(batch, raw_layout, layout, "preprocess, layout")
    return np.ascontiguousarray(batch)


def resize_to(spec: Mapping[str, Any], batch: Floats, layout: str) -> Floats:
    """Images of the size that a spec names, in its mode; `resized_place` has the numbers.

    Args:
        spec: an edgekit.schema.tensors.Resize as a dict.
        batch: raw values, of a layout with H and W.
    """
    axes = _axis(layout, "H", "resize"), _axis(layout, "W", "resize")
    (height, width), corner = resized_place(spec, batch.shape[axes[0]], batch.shape[axes[1]])
    inner = resize(batch, layout, height, width, bool(spec.get("antialias")))
    if spec.get("mode") != "letterbox":
        return inner
    margins = [(0, 0)] * batch.ndim
    for axis, wanted, given, before in zip(axes, spec["size"], (height, width), corner):
        margins[axis] = (before, int(wanted) - given - before)
    return np.pad(inner, margins, constant_values=np.float32(spec.get("pad", 0.0)))


def resized_place(spec: Mapping[str, Any], tall: int, wide: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width that an image of `tall` x `wide` pixels becomes, and where its top left corner then lies.

    With r the larger (cover) or smaller (letterbox) ratio of wanted to given height and width, one side becomes exactly
    what is wanted, the other side its length times r: rounded down where it covers, to the nearest, halves up, where it
    fits inside. Letterbox adds pixels of `pad`; where their count is odd, the smaller half is at the top and left.

    Args:
        spec: an edgekit.schema.tensors.Resize as a dict.
    """
    height, width = (int(side) for side in spec["size"])
    mode = str(spec.get("mode", "stretch"))
    if mode == "stretch":
        return (height, width), (0, 0)
    by_height = (height * wide >= width * tall) == (mode == "cover")  # the height is what becomes exact
    if mode == "cover":
        return ((height, wide * height // tall) if by_height else (tall * width // wide, width)), (0, 0)
    inner_width = min(width, max(1, (2 * wide * height + tall) // (2 * tall)))
    inner_height = min(height, max(1, (2 * tall * width + wide) // (2 * wide)))
    size = (height, inner_width) if by_height else (inner_height, width)
    return size, ((height - size[0]) // 2, (width - size[1]) // 2)


def resize(batch: Floats, layout: str, height: int, width: int, antialias: bool = False) -> Floats:
    """Images of another size, bilinear between pixel centres; rows first, then columns.

    Along each axis output pixel i is read at s = (i + 0.5) * size_in / size_out - 0.5, held inside [0, size_in - 1]:
    (1 - f) * x[floor(s)] + f * x[floor(s) + 1] with f = s - floor(s).

    With `antialias` an axis that becomes shorter is read by a triangle as wide as an output pixel on both sides: x[j]
    counts max(0, 1 - |j - s| * size_out / size_in), and the weights of a pixel add up to 1, as in PIL and torch.
    """
    batch = _interpolate(batch, _axis(layout, "H", "resize"), height, antialias)
    return _interpolate(batch, _axis(layout, "W", "resize"), width, antialias)


def centre_crop(batch: Floats, layout: str, height: int, width: int) -> Floats:
    """The middle of every image; where the margin is odd, the smaller half is cut at the top and left."""
    for letter, size in (("H", height), ("W", width)):
        axis = _axis(layout, letter, "crop")
        margin = batch.shape[axis] - size
        if margin < 0:
            raise AgentError(
                f"a crop of {size} from {batch.shape[axis]} pixels",
                f"preprocess, crop, axis {letter}",
                "crop no more than the image (after resize) has",
            )
        start = margin // 2
        batch = np.take(batch, np.arange(start, start + size), axis=axis)
    return batch


def relayout(array: Array, source: str, wanted: str, where: str) -> Array:
    """`array` with its axes permuted from one layout to another, such as NCHW to NHWC."""
    if source == wanted:
        return array
    if sorted(source) != sorted(wanted):
        raise AgentError(f"layout {source} cannot become {wanted}", where, "use two layouts with the same axes")
    _check_layout(array, source, where)
    return np.transpose(array, [source.index(letter) for letter in wanted])


def to_artifact(tensor: Mapping[str, Any], array: Array, network_layout: str) -> Array:
    """A float batch of the network as the artifact's input takes it: layout, then integer codes, then dtype.

    code = clip(round_half_even(x / scale) + zero_point), divided in float32 as ONNX QuantizeLinear does.

    Args:
        tensor: an edgekit.schema.tensors.ArtifactTensor as a dict.
        array: (N, ...) in `network_layout`; N is free.

    Raises:
        AgentError: shapes differ, or a value that is not finite would have to become an integer.
    """
    where = "input {}".format(tensor["network_name"])
    values = relayout(np.asarray(array), network_layout, str(tensor["layout"]), where)
    if tuple(values.shape[1:]) != tuple(tensor["shape"][1:]):
        raise AgentError(
            "samples of shape {} for an input of {}".format(tuple(values.shape[1:]), tuple(tensor["shape"][1:])),
            where,
            "give samples of the shape that the artifact was exported for",
        )
    dtype = np.dtype(tensor["dtype"])
    if dtype.kind in "iu":
        if not np.all(np.isfinite(values)):
            raise AgentError("a value is NaN or infinite", where, "check the samples and their preprocessing")
        if tensor.get("scale") is not None:
            codes = np.rint(values.astype(np.float32) / np.float32(tensor["scale"])) + np.float32(tensor["zero_point"])
        else:
            codes = np.rint(values)
        limits = np.iinfo(dtype)
        values = np.clip(codes, limits.min, limits.max)
    return np.ascontiguousarray(values.astype(dtype))


def from_artifact(tensor: Mapping[str, Any], array: Array, network_layout: str) -> Floats:
    """An artifact's output as float32 in the network's layout: scale * (code - zero_point) where it gives codes."""
    values = np.asarray(array)
    if tensor.get("scale") is not None:
        values = dequantise(values, float(tensor["scale"]), int(tensor["zero_point"]))
    where = "output {}".format(tensor["network_name"])
    return np.ascontiguousarray(relayout(values, str(tensor["layout"]), network_layout, where).astype(np.float32))


def dequantise(codes: Array, scale: float, zero_point: int) -> Floats:
    """scale * (code - zero_point), the difference in integers, the product in float32."""
    real: Floats = (codes.astype(np.int32) - np.int32(zero_point)).astype(np.float32) * np.float32(scale)
    return real


def _interpolate(batch: Floats, axis: int, size: int, antialias: bool) -> Floats:
    size_in = batch.shape[axis]
    if size == size_in:
        return batch
    if antialias and size < size_in:
        return _average(batch, axis, size)
    position = np.clip((np.arange(size, dtype=np.float64) + 0.5) * (size_in / size) - 0.5, 0.0, size_in - 1.0)
    low = np.floor(position).astype(np.int64)
    high = np.minimum(low + 1, size_in - 1)
    shape = [1] * batch.ndim
    shape[axis] = size
    fraction = (position - low).astype(np.float32).reshape(shape)
    below, above = np.take(batch, low, axis=axis), np.take(batch, high, axis=axis)
    between: Floats = below * (np.float32(1.0) - fraction) + above * fraction
    return between


def _average(batch: Floats, axis: int, size: int) -> Floats:
    size_in = batch.shape[axis]
    centres = (np.arange(size, dtype=np.float64) + 0.5) * (size_in / size) - 0.5
    weights = np.maximum(1.0 - np.abs(np.arange(size_in) - centres[:, None]) * (size / size_in), 0.0)
    weights /= weights.sum(1, keepdims=True)
    made = np.tensordot(batch, weights.astype(np.float32), axes=(axis, 1))
    return np.ascontiguousarray(np.moveaxis(made, -1, axis))


def _reversed_channels(batch: Floats, layout: str) -> Floats:
    axis = _axis(layout, "C", "reverse_channels")
    if batch.shape[axis] != 3:
        raise AgentError(
            f"samples of {batch.shape[axis]} channels",
            "preprocess, reverse_channels",
            "leave it out: only three channels have an order of colours",
        )
    return np.flip(batch, axis)


def _per_channel(values: Any, batch: Floats, layout: str, key: str) -> Floats:
    axis = _axis(layout, "C", key)
    if len(values) not in (1, batch.shape[axis]):
        raise AgentError(
            f"{len(values)} values for {batch.shape[axis]} channels",
            f"preprocess, {key}",
            "give one value, or one per channel",
        )
    shape = [1] * batch.ndim
    shape[axis] = len(values)
    return np.asarray(values, dtype=np.float32).reshape(shape)


def _axis(layout: str, letter: str, key: str) -> int:
    if letter not in layout:
        raise AgentError(
            f"layout {layout} has no axis {letter}",
            f"preprocess, {key}",
            f"declare a layout with that axis, or leave {key} out",
        )
    return layout.index(letter)


def _check_layout(array: Array, layout: str, where: str) -> None:
    if layout != "N" and array.ndim != len(layout):
        raise AgentError(f"an array of shape {array.shape} is not {layout}", where, "declare the layout that it has")
