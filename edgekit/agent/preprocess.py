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

    In this order: resize, centre crop, (x - offset) * factor, MFCC, (x - mean) / std, layout; all in float32 but the
    MFCC, and nothing is rounded back to the raw dtype on the way.

    Args:
        spec: an edgekit.schema.tensors.Preprocess as a dict.
        raw: (N, ...) in the spec's raw_dtype and raw_layout. With raw_layout `N` the samples already have the network's
            shape: offset and factor apply, what needs an axis (resize, crop, MFCC, mean, std) is refused.

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
        for key in ("resize", "crop", "mfcc", "mean", "std"):
            if spec.get(key):
                raise AgentError(
                    f"{key} needs to know the axes of a sample",
                    "preprocess, raw_layout N",
                    "declare the layout of the raw samples",
                )
    if spec.get("resize"):
        height, width = spec["resize"]
        batch = resize(batch, raw_layout, int(height), int(width))
    if spec.get("crop"):
        height, width = spec["crop"]
        batch = centre_crop(batch, raw_layout, int(height), int(width))
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


def resize(batch: Floats, layout: str, height: int, width: int) -> Floats:
    """Images of another size, bilinear between pixel centres, without antialiasing.

    Along each axis output pixel i is read at s = (i + 0.5) * size_in / size_out - 0.5, held inside [0, size_in - 1]:
    (1 - f) * x[floor(s)] + f * x[floor(s) + 1] with f = s - floor(s). Rows first, then columns.
    """
    batch = _interpolate(batch, _axis(layout, "H", "resize"), height)
    return _interpolate(batch, _axis(layout, "W", "resize"), width)


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


def _interpolate(batch: Floats, axis: int, size: int) -> Floats:
    size_in = batch.shape[axis]
    if size == size_in:
        return batch
    position = np.clip((np.arange(size, dtype=np.float64) + 0.5) * (size_in / size) - 0.5, 0.0, size_in - 1.0)
    low = np.floor(position).astype(np.int64)
    high = np.minimum(low + 1, size_in - 1)
    shape = [1] * batch.ndim
    shape[axis] = size
    fraction = (position - low).astype(np.float32).reshape(shape)
    below, above = np.take(batch, low, axis=axis), np.take(batch, high, axis=axis)
    between: Floats = below * (np.float32(1.0) - fraction) + above * fraction
    return between


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
