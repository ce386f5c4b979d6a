"""Rows for activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.nets.from_onnx.graph import Operator
from edgekit.nets.from_onnx.untaken import UntakenError


def clip(op: Operator) -> Any:
    """Clip: bounds as attributes before operator set 11, then as inputs."""
    bounds: list[float | None] = [op.attribute("min"), op.attribute("max")]
    for i in (1, 2):
        if op.has(i):
            bounds[i - 1] = op.number(i)
            if bounds[i - 1] is None:
                raise UntakenError("its bounds are tensors, and only numbers are taken")
    largest = float(np.finfo(np.float32).max)
    low, high = (None if b is None or abs(b) >= largest else b for b in bounds)
    if (low, high) == (0, 6):
        return op.layer(nn.ReLU6(), op.tensor(0))
    if (low, high) == (0, None):
        return op.layer(nn.ReLU(), op.tensor(0))
    if low is None and high is None:
        return op.layer(nn.Identity(), op.tensor(0))
    if low is not None and high is not None:
        if low >= high:
            raise UntakenError(f"its bounds are {low:g} and {high:g}")
        return op.layer(nn.Hardtanh(low, high), op.tensor(0))
    return op.apply(torch.clamp, op.tensor(0), **({"max": high} if low is None else {"min": low}))


def softmax(function: Callable[..., Tensor]) -> Callable[[Operator], Any]:
    """A row for Softmax and LogSoftmax. Before operator set 13 they are over the axis and all that follow it."""

    def row(op: Operator) -> Any:
        rank = op.rank(0)
        axis = op.attribute("axis", -1 if op.opset >= 13 else 1) % rank
        if op.opset >= 13 or axis == rank - 1:
            layer = nn.Softmax(axis) if function is torch.softmax else nn.LogSoftmax(axis)
            return op.layer(layer, op.tensor(0))
        return op.apply(_over_rest, op.tensor(0), by=function, axis=axis)

    return row


def _over_rest(x: Tensor, by: Callable[..., Tensor], axis: int) -> Tensor:
    return by(x.flatten(axis), dim=-1).reshape(x.shape)


def leaky(op: Operator) -> Any:
    """LeakyRelu."""
    return op.layer(nn.LeakyReLU(op.attribute("alpha", 0.01)), op.tensor(0))


def prelu(op: Operator) -> Any:
    """PRelu with a slope for all, or for each channel; any other shape of slopes as max and min."""
    slope = op.known(1)
    channels = op.shape(0)[1] if op.rank(0) > 1 else 1
    wanted = (channels, *(1,) * (op.rank(0) - 2))
    if slope.size == 1 or (slope.size == channels and slope.shape[-len(wanted) :] == wanted):
        layer = nn.PReLU(slope.size)
        layer.weight = op.weight(1, "flat", lambda array: array.reshape(-1))
        return op.layer(layer, op.tensor(0))
    return op.apply(_sloped, op.tensor(0), op.tensor(1))


def _sloped(x: Tensor, slope: Tensor) -> Tensor:
    return x.clamp(min=0) + slope * x.clamp(max=0)


def elu(op: Operator) -> Any:
    """Elu."""
    return op.layer(nn.ELU(op.attribute("alpha", 1.0)), op.tensor(0))


def celu(op: Operator) -> Any:
    """Celu."""
    return op.layer(nn.CELU(op.attribute("alpha", 1.0)), op.tensor(0))


def selu(op: Operator) -> Any:
    """Selu with its own two numbers."""
    alpha = op.attribute("alpha", 1.67326319217681884765625)
    gamma = op.attribute("gamma", 1.05070102214813232421875)
    return op.apply(_selu, op.tensor(0), alpha=alpha, gamma=gamma)


def _selu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    return gamma * nn.functional.elu(x, alpha)


def hard_sigmoid(op: Operator) -> Any:
    """HardSigmoid: a clipped line."""
    alpha, beta = op.attribute("alpha", 0.2), op.attribute("beta", 0.5)
    return op.apply(_hard_sigmoid, op.tensor(0), alpha=alpha, beta=beta)


def _hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and math.isclose(beta, 0.5, rel_tol=1e-5):
        return nn.functional.relu6(x + 3.0) * (1 / 6)
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


def hard_swish(x: Tensor) -> Tensor:
    """x * relu6(x + 3) / 6 in operators that every runtime has in integers.

    Source: Howard et al., MobileNetV3, arXiv:1905.02244, section 5.2.
    """
    return x * (nn.functional.relu6(x + 3.0) * (1 / 6))


def thresholded(op: Operator) -> Any:
    """ThresholdedRelu: what exceeds the threshold, else 0."""
    return op.layer(nn.Threshold(op.attribute("alpha", 1.0), 0.0), op.tensor(0))


def gelu(op: Operator) -> Any:
    """Gelu."""
    return op.layer(nn.GELU(approximate=op.attribute("approximate", "none")), op.tensor(0))


def swish(op: Operator) -> Any:
    """Swish: x * sigmoid(alpha x)."""
    return op.apply(_swish, op.tensor(0), alpha=op.attribute("alpha", 1.0))


def _swish(x: Tensor, alpha: float) -> Tensor:
    return x * torch.sigmoid(x if alpha == 1.0 else x * alpha)
