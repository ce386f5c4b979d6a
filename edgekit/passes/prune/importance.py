"""How much a channel matters: one score for each channel of a group, over all layers that share it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.passes.losses import LossFunction, find_loss
from edgekit.passes.prune.group import ChannelGroup, Member

Importance = Literal["magnitude", "bn_scale", "taylor"]
_BATCH = 32
_LAYERS = (nn.Linear, _ConvNd, _NormBase, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.PReLU, nn.Embedding)


def saliency(
    network: nn.Module, importance: Importance, calibration: Samples, loss: str = "cross_entropy"
) -> dict[str, Tensor]:
    """A score >= 0 for each weight, shaped like the weight, by layer name; of tensors of no such layer, by their own.

    `magnitude`: w^2 (Li et al., arXiv:1608.08710, squared as group norms are). `bn_scale`: |gamma| of batch norms alone
    (Liu et al., arXiv:1708.06519). `taylor`: |w * dL/dw|, the mean over calibration batches, with L the loss
    (Molchanov et al., arXiv:1906.10771, the absolute first-order term). Norms take part in it, and depthwise
    convolutions in both; torch-pruning's own estimators leave batch norms out. Biases take part in none.
    """
    weights = _weights(network)
    if importance == "taylor":
        return _taylor(network, weights, calibration, find_loss(loss, "step prune, importance taylor"))
    if importance == "bn_scale":
        norms = {name for name, layer in network.named_modules() if isinstance(layer, _NormBase)}
        return {name: weight.detach().abs() for name, weight in weights.items() if name in norms}
    return {name: weight.detach().square() for name, weight in weights.items()}


def score_channels(group: ChannelGroup, saliencies: Mapping[str, Tensor]) -> Tensor | None:
    """Scores (width,) of a group's channels, with mean 1, so that groups compare; None where no layer has a saliency.

    A channel's score in a layer is the sum over its weights; in the group, the mean over layers. A group of zeros
    scores zero.

    Raises:
        PassError: a score is not finite.
    """
    parts = [
        _channel_sums(member, saliencies[member.layer].double())
        for member in group.members
        if member.layer in saliencies
    ]
    if not parts:
        return None
    scores = torch.stack(parts).mean(0)
    if not scores.isfinite().all():
        raise PassError(
            what="the importance of a channel is not finite",
            where=f"layer {group.root}",
            fix="check the weights and, with importance taylor, the calibration samples for infinities",
        )
    mean = scores.mean()
    return scores / mean if mean > 0 else scores


def _channel_sums(member: Member, weights: Tensor) -> Tensor:
    sums = weights.transpose(0, member.axis).flatten(1).sum(1) if weights.dim() > 1 else weights
    return torch.stack([sums[list(indices)].sum() for indices in member.channels])


def _weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of layers by the layer's name, every other tensor but biases by its own."""
    weights: dict[str, nn.Parameter] = {}
    for name, parameter in network.named_parameters():
        path, _, leaf = name.rpartition(".")
        layer = network.get_submodule(path)
        if isinstance(layer, _LAYERS):
            if leaf == "weight":
                weights[path] = parameter
        elif "bias" not in leaf:
            weights[name] = parameter
    return weights


def _taylor(
    network: nn.Module, weights: Mapping[str, nn.Parameter], calibration: Samples, loss: LossFunction
) -> dict[str, Tensor]:
    copied = copy.deepcopy(network).eval()
    own = _weights(copied)
    for weight in own.values():
        weight.requires_grad_(True)
    totals = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    batches = range(0, len(calibration), _BATCH)
    for start in batches:
        inputs, labels = calibration.batch(start, start + _BATCH), calibration.labels[start : start + _BATCH]
        with torch.enable_grad():
            value = loss(copied(*inputs), inputs, labels)
        gradients = torch.autograd.grad(value, list(own.values()), allow_unused=True)
        for (name, weight), gradient in zip(own.items(), gradients, strict=True):
            if gradient is not None:
                totals[name] += (weight.detach() * gradient).abs() / len(batches)
    return totals
