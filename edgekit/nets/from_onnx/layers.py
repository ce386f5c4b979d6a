"""Rows for operators with weights: convolutions, products with matrices, norms, embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.nets.from_onnx.graph import Operator
from edgekit.nets.from_onnx.untaken import UntakenError
from edgekit.nets.from_onnx.windows import layer_for, window_of, zero_padded


def conv(op: Operator) -> Any:
    """Conv; padding that differs by side is a pad of its own before it."""
    if not op.is_known(1) or (op.has(2) and not op.is_known(2)):
        raise UntakenError("its kernel is computed from the network's input")
    outside, inside, *kernel = op.shape(1)
    window, groups = window_of(op, kernel), op.attribute("group", 1)
    kind = layer_for((nn.Conv1d, nn.Conv2d, nn.Conv3d), len(kernel))
    layer = _without_weights(
        kind,
        inside * groups,
        outside,
        tuple(kernel),
        stride=window.stride,
        padding=window.begin if window.even else 0,
        dilation=window.dilation,
        groups=groups,
        bias=False,
    )
    layer.weight = op.weight(1)
    _take_bias(op, layer, outside, axes=len(kernel))
    return op.layer(layer, op.tensor(0) if window.even else zero_padded(op, window))


def _take_bias(op: Operator, layer: Any, channels: int, axes: int) -> None:
    """The operator's own bias, or one that is added right behind it."""
    if op.has(2):
        layer.bias = op.weight(2)
    elif (behind := op.bias_behind(channels, axes)) is not None:
        layer.bias = op.bench.parameter(behind, "bias", lambda array: array.reshape(-1))


def conv_transpose(op: Operator) -> Any:
    """ConvTranspose; what it crops unevenly is cropped by a layer of its own behind it."""
    if not op.is_known(1):
        raise UntakenError("its kernel is computed from the network's input")
    inside, outside, *kernel = op.shape(1)
    groups = op.attribute("group", 1)
    axes = len(kernel)
    stride = tuple(op.attribute("strides") or [1] * axes)
    dilation = tuple(op.attribute("dilations") or [1] * axes)
    extra = tuple(op.attribute("output_padding") or [0] * axes)
    begin, end = _transposed_pads(op, kernel, stride, dilation, extra)
    even = begin == end
    kind = layer_for((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), axes)
    fits = all(e < max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True))
    if not even and any(extra):  # what is added at the end is cropped less there
        end = tuple(e - x for e, x in zip(end, extra, strict=True))
        extra = (0,) * axes
    elif not fits:
        raise UntakenError(f"output_padding {list(extra)} is not smaller than its stride")
    layer = _without_weights(
        kind,
        inside,
        outside * groups,
        tuple(kernel),
        stride=stride,
        padding=begin if even else 0,
        output_padding=extra,
        dilation=dilation,
        groups=groups,
        bias=op.has(2),
    )
    layer.weight = op.weight(1)
    if op.has(2):
        layer.bias = op.weight(2)
    found = op.layer(layer, op.tensor(0))
    if even:
        return found
    flat = [-side for pair in reversed(list(zip(begin, end, strict=True))) for side in pair]
    return op.apply_part(functional.pad, "crop", found, pad=flat)


def _transposed_pads(
    op: Operator, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], extra: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    axes = len(kernel)
    how = op.attribute("auto_pad", "NOTSET")
    wanted = op.attribute("output_shape")
    if wanted is None and how in ("NOTSET", "VALID"):
        pads = list(op.attribute("pads") or [0] * 2 * axes) if how == "NOTSET" else [0] * 2 * axes
        return tuple(pads[:axes]), tuple(pads[axes:])
    sizes = op.shape(0)[2:]
    wanted = list(wanted or [n * s for n, s in zip(sizes, stride, strict=True)])[-axes:]
    sides = zip(sizes, kernel, stride, dilation, extra, wanted, strict=True)
    totals = [max(s * (n - 1) + x + d * (k - 1) + 1 - w, 0) for n, k, s, d, x, w in sides]
    less, more = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return (less, more) if how == "SAME_UPPER" else (more, less)


def gemm(op: Operator) -> Any:
    """Gemm: a linear layer where its matrix is stored; alpha and beta go into the weights."""
    alpha, beta = op.attribute("alpha", 1.0), op.attribute("beta", 1.0)
    turned = bool(op.attribute("transB", 0))
    whole = not op.has(2) or (op.is_known(2) and op.fixed(2).array.ndim <= 2)
    if not op.is_known(1) or not whole or op.attribute("transA", 0):
        return op.apply(
            _gemm,
            *(op.tensor(i) for i in range(len(op.inputs)) if op.has(i)),
            alpha=alpha,
            beta=beta,
            turn_a=bool(op.attribute("transA", 0)),
            turn_b=turned,
        )
    outside, inside = op.shape(1) if turned else op.shape(1)[::-1]
    bias = op.fixed(2).array if op.has(2) else None
    if bias is not None and bias.size not in (1, outside):
        return op.apply(_gemm, *(op.tensor(i) for i in range(3)), alpha=alpha, beta=beta, turn_a=False, turn_b=turned)
    layer = _without_weights(nn.Linear, inside, outside, bias=bias is not None)
    layer.weight = op.weight(1, f"gemm {turned} {alpha}", lambda a: (a if turned else a.T) * np.float32(alpha))
    if bias is not None:
        layer.bias = op.weight(
            2, f"gemm {outside} {beta}", lambda b: np.broadcast_to(b.reshape(-1), outside) * np.float32(beta)
        )
    return op.layer(layer, op.tensor(0))


def _gemm(
    a: Tensor, b: Tensor, c: Tensor | None = None, *, alpha: float, beta: float, turn_a: bool, turn_b: bool
) -> Tensor:
    product = (a.T if turn_a else a) @ (b.T if turn_b else b)
    product = product if alpha == 1 else product * alpha
    return product if c is None else product + (c if beta == 1 else c * beta)


def matmul(op: Operator) -> Any:
    """MatMul: a linear layer where the second matrix is stored, else a product."""
    if op.is_known(1) and op.rank(1) == 2 and not op.is_known(0) and op.rank(0) > 1:
        inside, outside = op.shape(1)
        layer = _without_weights(nn.Linear, inside, outside, bias=False)
        layer.weight = op.weight(1, "turned", lambda array: array.T)
        _take_bias(op, layer, outside, axes=0)
        return op.layer(layer, op.tensor(0))
    return op.apply(torch.matmul, op.tensor(0), op.tensor(1))


def einsum(op: Operator) -> Any:
    """Einsum."""
    return op.apply(_einsum, *(op.tensor(i) for i in range(len(op.inputs))), equation=op.attribute("equation"))


def _einsum(*tensors: Tensor, equation: str) -> Tensor:
    return torch.einsum(equation.replace(" ", ""), *tensors)


def batch_norm(op: Operator) -> Any:
    """BatchNormalization with its stored statistics."""
    if op.attribute("training_mode", 0):
        raise UntakenError("it is in training mode, so its result depends on the batch")
    if not all(op.is_known(i) for i in range(1, 5)):
        raise UntakenError("its statistics are computed from the network's input")
    rank = op.rank(0)
    kind = nn.BatchNorm1d if rank == 2 else layer_for((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), rank - 2)
    layer = kind(op.shape(1)[0], eps=op.attribute("epsilon", 1e-5))
    layer.weight, layer.bias = op.weight(1), op.weight(2)
    layer.running_mean, layer.running_var = (op.weight(i).detach().clone() for i in (3, 4))
    return op.layer(layer, op.tensor(0))


def layer_norm(op: Operator) -> Any:
    """LayerNormalization over the last axes."""
    if len(op.outputs) > 1:
        raise UntakenError("its mean and deviation are asked for")
    axis = op.attribute("axis", -1) % op.rank(0)
    shape = op.shape(0)[axis:]
    known = op.is_known(1) and (not op.has(2) or op.is_known(2))
    if not known or op.shape(1) != shape or (op.has(2) and op.shape(2) != shape):
        raise UntakenError("its factors are not stored in the shape that it norms")
    layer = nn.LayerNorm(shape, eps=op.attribute("epsilon", 1e-5), bias=op.has(2))
    layer.weight = op.weight(1)
    if op.has(2):
        layer.bias = op.weight(2)
    return op.layer(layer, op.tensor(0))


def rms_norm(op: Operator) -> Any:
    """RMSNormalization over the last axes."""
    shape = op.shape(0)[op.attribute("axis", -1) % op.rank(0) :]
    if not op.is_known(1) or op.shape(1) != shape:
        raise UntakenError("its factors are not stored in the shape that it norms")
    layer = nn.RMSNorm(shape, eps=op.attribute("epsilon", 1e-5))
    layer.weight = op.weight(1)
    return op.layer(layer, op.tensor(0))


def instance_norm(op: Operator) -> Any:
    """InstanceNormalization: a group norm with a group for each channel."""
    return _group_norm(op, op.shape(0)[1])


def group_norm(op: Operator) -> Any:
    """GroupNormalization as of operator set 21: a factor for each channel."""
    return _group_norm(op, op.attribute("num_groups"))


def _group_norm(op: Operator, groups: int) -> Any:
    if not (op.is_known(1) and op.is_known(2)):
        raise UntakenError("its factors are computed from the network's input")
    layer = nn.GroupNorm(groups, op.shape(0)[1], eps=op.attribute("epsilon", 1e-5))
    layer.weight, layer.bias = op.weight(1), op.weight(2)
    return op.layer(layer, op.tensor(0))


def local_norm(op: Operator) -> Any:
    """LRN across channels."""
    size, alpha = op.attribute("size"), op.attribute("alpha", 1e-4)
    beta, bias = op.attribute("beta", 0.75), op.attribute("bias", 1.0)
    if size % 2 == 0:
        raise UntakenError(f"its size {size} is even, and torch and ONNX then count other neighbours")
    return op.layer(nn.LocalResponseNorm(size, alpha, beta, bias), op.tensor(0))


def lp_norm(op: Operator) -> Any:
    """LpNormalization along an axis."""
    return op.apply(_lp_norm, op.tensor(0), p=op.attribute("p", 2), axis=op.attribute("axis", -1))


def _lp_norm(x: Tensor, p: int, axis: int) -> Tensor:
    length = x.abs().sum(axis, keepdim=True) if p == 1 else (x * x).sum(axis, keepdim=True).sqrt()
    return torch.where(length == 0, torch.zeros_like(x), x / torch.where(length == 0, 1.0, length))


def mean_variance_norm(op: Operator) -> Any:
    """MeanVarianceNormalization."""
    axes = tuple(op.attribute("axes") or (0, 2, 3))
    if 0 in axes:
        raise UntakenError("it norms over the batch, so one sample's result depends on the others")
    return op.apply(_mean_variance, op.tensor(0), axes=axes)


def _mean_variance(x: Tensor, axes: Sequence[int]) -> Tensor:
    centred = x - x.mean(tuple(axes), keepdim=True)
    return centred / ((centred * centred).mean(tuple(axes), keepdim=True).sqrt() + 1e-9)


def _without_weights(kind: Any, *sizes: Any, **options: Any) -> Any:
    """A layer whose weights are put in later: none are drawn, so the random state stays as it was."""
    return nn.utils.skip_init(kind, *sizes, **options)  # type: ignore[no-untyped-call]
