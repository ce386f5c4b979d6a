"""Rounding to a grid whose scale is learned.

Source: Esser et al., Learned Step Size Quantization, arXiv:1902.08153; with a zero point, Bhalgat et al., LSQ+,
arXiv:2004.09576.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def round_with_learned_step(values: Tensor, scale: Tensor, zero_point: int, qmin: int, qmax: int) -> Tensor:
    """`values` on the grid of `scale`, a tensor of one number; gradients reach both.

    Inside the range the gradient of the values is 1, outside and at its ends 0. That of the scale is
    round(v / s) - v / s inside, and outside the code of that end less the zero point; times 1 / sqrt(N * Q), where N is
    the number of values of a sample, Q the larger distance of an end from the zero point. So it is, beside the scale,
    as large as that of a weight beside the weight (section 2.2).

    Args:
        values: samples along axis 0.
    """
    result: Tensor = _LearnedStep.apply(values, scale, zero_point, qmin, qmax)  # type: ignore[no-untyped-call]
    return result


class _LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: Tensor, zero_point: int, qmin: int, qmax: int) -> Tensor:
        scaled = values / scale
        codes = scaled.round().clamp_(qmin - zero_point, qmax - zero_point)
        ctx.save_for_backward(scaled, codes, scale)
        ctx.ends = (qmin - zero_point, qmax - zero_point)
        return codes * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        scaled, codes, scale = ctx.saved_tensors
        low, high = ctx.ends
        of_values = torch.ops.aten.hardtanh_backward.default(
            gradient, scaled, low, high
        )  # 0 at the ends, as in the paper
        of_scale = None
        if ctx.needs_input_grad[1]:
            factor = 1 / math.sqrt(scaled[0].numel() * max(high, -low))
            total = torch.dot(gradient.flatten(), codes.flatten()) - torch.dot(of_values.flatten(), scaled.flatten())
            of_scale = (total * factor).reshape(scale.shape)
        return of_values, of_scale, None, None, None
