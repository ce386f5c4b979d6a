"""How much a channel matters: one score for each channel of a group, over all layers that share it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.passes.losses import LossFunction, find_loss
from edgekit.passes.prune.groups import ChannelGroup, Member

Importance = Literal["magnitude", "bn_scale", "taylor"]
_BATCH = 32


def saliency(
    network: nn.Module, importance: Importance, calibration: Samples, loss: str = "cross_entropy"
) -> dict[str, Tensor]:
    """A score >= 0 for each weight, shaped like the weight, by layer name.

    `magnitude`: w^2 (Li et al., arXiv:1608.08710, squared as group norms are). `bn_scale`: |gamma| of batch norms alone
    (Liu et al., arXiv:1708.06519). `taylor`: |w * dL/dw|, the mean over calibration batches, with L the loss
    (Molchanov et al., arXiv:1906.10771, the absolute first-order term). Batch norms take part in it, and depthwise
    convolutions in both; torch-pruning's own estimators leave them out.
    """
    layers = {name: layer for name, layer in network.named_modules() if _has_weight(layer)}
    if importance == "taylor":
        return _taylor(network, list(layers), calibration, find_loss(loss, "step prune, importance taylor"))
    if importance == "bn_scale":
        norms = {name: layer for name, layer in layers.items() if isinstance(layer, nn.BatchNorm2d)}
        return {name: _weight(layer).detach().abs() for name, layer in norms.items()}
    return {name: _weight(layer).detach().square() for name, layer in layers.items()}


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
    sums = (
        (weights if member.side == "out" else weights.transpose(0, 1)).flatten(1).sum(1)
        if weights.dim() > 1
        else weights
    )
    return torch.stack([sums[list(indices)].sum() for indices in member.channels])


def _has_weight(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d | nn.Linear) or (isinstance(layer, nn.BatchNorm2d) and layer.affine)


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight


def _taylor(network: nn.Module, names: list[str], calibration: Samples, loss: LossFunction) -> dict[str, Tensor]:
    network = copy.deepcopy(network).eval()
    weights = {name: _weight(network.get_submodule(name)).requires_grad_(True) for name in names}
    totals = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    batches = range(0, len(calibration), _BATCH)
    for start in batches:
        inputs, labels = calibration.batch(start, start + _BATCH), calibration.labels[start : start + _BATCH]
        with torch.enable_grad():
            value = loss(network(*inputs), inputs, labels)
        gradients = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            if gradient is not None:
                totals[name] += (weight.detach() * gradient).abs() / len(batches)
    return totals
