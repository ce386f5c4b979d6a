"""Rows for Resize, Upsample, GridSample: torch has most of them, and matrices by ONNX's formula are the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edgekit.nets.from_onnx.graph import Operator
from edgekit.nets.from_onnx.untaken import UntakenError

Floats = NDArray[np.float64]


def resize(op: Operator) -> Any:
    """Resize and Upsample: sizes or scales, as attribute or input, for some axes or all."""
    mode = {"bilinear": "linear", "trilinear": "linear"}.get(op.attribute("mode", "nearest"), op.attribute("mode"))
    mode = mode or "nearest"
    # before operator set 11 there was one way to place pixels
    place = op.attribute("coordinate_transformation_mode", "half_pixel") if op.opset >= 11 else "asymmetric"
    rounding = op.attribute("nearest_mode", "round_prefer_floor") if op.opset >= 11 else "floor"
    if op.attribute("antialias", 0) or place == "tf_crop_and_resize":
        raise UntakenError(
            "it smooths while it makes smaller" if place != "tf_crop_and_resize" else f"it places by {place}"
        )
    sizes, scales = _sizes(op)
    source = op.shape(0)
    changed = [axis for axis in range(len(source)) if axis > 0 and (sizes[axis], scales[axis]) != (source[axis], 1.0)]
    if sizes[0] != source[0]:
        raise UntakenError("it resizes the batch")
    if not changed:
        return op.value(0)
    maps = {
        axis: _map(source[axis], sizes[axis], scales[axis], mode, place, rounding, op.attribute("cubic_coeff_a", -0.75))
        for axis in changed
    }
    own = _torch_mode(maps, source, sizes, mode, place)
    if own is not None:
        spatial = tuple(sizes[2:])
        return op.apply(functional.interpolate, op.tensor(0), size=spatial, **own)
    if op.attribute("exclude_outside", 0):
        raise UntakenError("exclude_outside is set")
    return op.layer(Resampled(maps), op.tensor(0))


class Resampled(nn.Module):
    """Each axis times a fixed matrix: how much of every old pixel is in every new one."""

    def __init__(self, maps: dict[int, Floats]) -> None:
        super().__init__()
        self.axes = tuple(maps)
        for axis, matrix in maps.items():
            self.register_buffer(f"matrix{axis}", torch.from_numpy(matrix.astype(np.float32)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C, ...) with other sizes."""
        for axis in self.axes:
            matrix = self.get_buffer(f"matrix{axis}")
            x = functional.linear(x.movedim(axis, -1), matrix).movedim(-1, axis)
        return x


def grid_sample(op: Operator) -> Any:
    """GridSample: where each new pixel is taken from is computed by the network."""
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(
        op.attribute("mode", "linear"), op.attribute("mode", "bilinear")
    )
    padding, corners = op.attribute("padding_mode", "zeros"), bool(op.attribute("align_corners", 0))
    return op.apply(
        functional.grid_sample,
        op.tensor(0),
        op.tensor(1),
        mode=mode,
        padding_mode=padding,
        align_corners=corners,
    )


def _sizes(op: Operator) -> tuple[list[int], list[float]]:
    source = list(op.shape(0))
    position = {True: (2, 3), False: (1, None)}[op.opset >= 11]
    axes = [axis % len(source) for axis in op.attribute("axes") or range(len(source))]
    if op.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise UntakenError("it keeps the aspect ratio")
    given = op.attribute("scales")
    if given is None and op.has(position[0]) and op.shape(position[0]) != (0,):
        value = op.fixed(position[0])
        given = value.array.astype(np.float64).reshape(-1).tolist()
    sizes, scales = source[:], [1.0] * len(source)
    if given is not None:
        for axis, scale in zip(axes, given, strict=True):
            sizes[axis], scales[axis] = math.floor(source[axis] * scale + 1e-6), float(scale)
        return sizes, scales
    if position[1] is None or not op.has(position[1]):
        raise UntakenError("it names neither sizes nor scales")
    wanted = op.fixed(position[1]).at[0].reshape(-1).tolist()
    for axis, size in zip(axes, wanted, strict=True):
        sizes[axis], scales[axis] = int(size), int(size) / source[axis]
    return sizes, scales


def _map(old: int, new: int, scale: float, mode: str, place: str, rounding: str, a: float) -> Floats:
    """(new, old) matrix of one axis, by the formulas of ONNX's Resize."""
    x = np.arange(new, dtype=np.float64)
    placed = {
        "half_pixel": (x + 0.5) / scale - 0.5,
        "pytorch_half_pixel": (x + 0.5) / scale - 0.5 if new > 1 else np.zeros(1),
        "align_corners": x * (old - 1) / (new - 1) if new > 1 else np.zeros(1),
        "asymmetric": x / scale,
        "half_pixel_symmetric": old / 2 * (1 - new / (old * scale)) + (x + 0.5) / scale - 0.5,
    }
    if place not in placed:
        raise UntakenError(f"it places pixels by {place}")
    at = placed[place]
    matrix = np.zeros((new, old))
    if mode == "nearest":
        rounded = {
            "round_prefer_floor": np.ceil(at - 0.5),
            "round_prefer_ceil": np.floor(at + 0.5),
            "floor": np.floor(at),
            "ceil": np.ceil(at),
        }[rounding]
        matrix[np.arange(new), np.clip(rounded, 0, old - 1).astype(int)] = 1
        return matrix
    if mode not in ("linear", "cubic"):
        raise UntakenError(f"mode {mode!r}")
    if mode == "linear":
        at = np.clip(at, 0, old - 1)
    base = np.floor(at)
    reach = (0, 1) if mode == "linear" else (-1, 0, 1, 2)
    for step in reach:
        distance = np.abs(at - base - step)
        share = 1 - distance if mode == "linear" else _cubic(distance, a)
        np.add.at(matrix, (np.arange(new), np.clip(base + step, 0, old - 1).astype(int)), share)
    return matrix


def _cubic(x: Floats, a: float) -> Floats:
    """Keys' kernel (IEEE TASSP 29, 1981) with its free number `a`."""
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    return np.where(x <= 1, near, a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a)


def _torch_mode(
    maps: dict[int, Floats], source: Sequence[int], sizes: Sequence[int], mode: str, place: str
) -> dict[str, Any] | None:
    """Options of torch's interpolation that do the same; None where none does."""
    axes = len(source) - 2
    if min(maps) < 2 or not 1 <= axes <= 3 or mode == "cubic":
        return None
    if mode == "nearest":
        spellings: list[dict[str, Any]] = [{"mode": "nearest"}, {"mode": "nearest-exact"}]
    else:
        corners = place == "align_corners"
        spellings = [{"mode": ("linear", "bilinear", "trilinear")[axes - 1], "align_corners": corners}]
    for options in spellings:
        if all(_same(matrix, source[axis], sizes[axis], options) for axis, matrix in maps.items()):
            return options
    return None


def _same(matrix: Floats, old: int, new: int, options: dict[str, Any]) -> bool:
    """Whether torch, with these options, makes the same of one axis: seen by what it makes of every unit vector."""
    one = dict(options)
    one["mode"] = {"bilinear": "linear", "trilinear": "linear"}.get(one["mode"], one["mode"])
    made = functional.interpolate(torch.eye(old, dtype=torch.float64)[None], size=new, **one)[0].T
    return bool(np.allclose(made.numpy(), matrix, atol=1e-6))
