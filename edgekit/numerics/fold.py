"""Folding a batch norm in eval mode into the linear operator before it. Branches are merged in `merge.py`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekit.errors import ShapeError


@dataclass(frozen=True)
class NormStats:
    """What a batch norm does in eval mode: y = gamma * (x - mean) / sqrt(var + eps) + beta, each (C,)."""

    mean: Tensor
    var: Tensor
    gamma: Tensor
    beta: Tensor
    eps: float

    @classmethod
    def of(cls, norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> NormStats:
        """Statistics and affine parameters of a norm; gamma 1 and beta 0 where it has none.

        Raises:
            ShapeError: the norm keeps no running statistics, so its output depends on the batch.
        """
        if norm.running_mean is None or norm.running_var is None:
            raise ShapeError(
                what=f"a batch norm of {norm.num_features} channels keeps no running statistics",
                where="batch norm with track_running_stats=False",
                fix="train it with running statistics; a norm of the batch itself is not a linear map",
            )
        mean, var = norm.running_mean.detach(), norm.running_var.detach()
        return cls(
            mean=mean,
            var=var,
            gamma=torch.ones_like(mean) if norm.weight is None else norm.weight.detach(),
            beta=torch.zeros_like(mean) if norm.bias is None else norm.bias.detach(),
            eps=norm.eps,
        )


def fold_batch_norm(weight: Tensor, bias: Tensor | None, norm: NormStats) -> tuple[Tensor, Tensor]:
    """Fold a batch norm into the convolution or linear layer before it.

    Computed in float64 and returned in the dtype of `weight`.

    Args:
        weight: (C_out, C_in / groups, kH, kW) or (C_out, C_in).
        bias: (C_out,), or None for a layer without one.
        norm: running mean and var, gamma and beta, each (C_out,), and the norm's own eps.

    Returns:
        Weight shaped like `weight`, and bias (C_out,).

    Raises:
        ShapeError: the bias or a vector of `norm` is not (C_out,).

    Source: Ding et al., RepVGG, arXiv:2101.03697, eq. 3; its sigma is sqrt(var + eps) here, and a bias of the layer is
    carried through the norm too.
    """
    channels = weight.shape[0]
    vectors = {"bias": bias, "mean": norm.mean, "var": norm.var, "gamma": norm.gamma, "beta": norm.beta}
    for name, vector in vectors.items():
        if vector is not None and tuple(vector.shape) != (channels,):
            raise ShapeError(
                what=f"{name} is {tuple(vector.shape)}, not ({channels},)",
                where=f"folding a batch norm into a weight {tuple(weight.shape)}",
                fix="give the norm that follows this layer, over its output channels",
            )
    factor = norm.gamma.double() / torch.sqrt(norm.var.double() + norm.eps)
    shift = -norm.mean.double() if bias is None else bias.double() - norm.mean.double()
    folded = weight.double() * factor.reshape(-1, *[1] * (weight.dim() - 1))
    return folded.to(weight.dtype), (shift * factor + norm.beta.double()).to(weight.dtype)
