"""How much a channel matters: one score for each channel of a group, over all layers that share it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.passes.losses import LossFunction, find_loss
from edgekit.passes.prune.group import ChannelGroup, Member

Importance = Literal["magnitude", "bn_scale", "taylor", "hessian", "activation"]
_BATCH = 32
_LAYERS = (nn.Linear, _ConvNd, _NormBase, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.PReLU, nn.Embedding)


def saliency(
    network: nn.Module, importance: Importance, calibration: Samples, loss: str = "cross_entropy"
) -> dict[str, Tensor]:
    """A score >= 0 for each weight, shaped like the weight, by layer name; of tensors of no such layer, by their own.

    `activation` scores what layers read instead: (channels,) by the name of each convolution or linear layer.

    `magnitude`: w^2 (Li et al., arXiv:1608.08710, squared as group norms are). `bn_scale`: |gamma| of batch norms alone
    (Liu et al., arXiv:1708.06519). `taylor`: |w * dL/dw|, the mean over calibration batches, with L the loss
    (Molchanov et al., arXiv:1906.10771, the absolute first-order term). Norms take part in it, and depthwise
    convolutions in both; torch-pruning's own estimators leave batch norms out. Biases take part in none.
    `hessian`: w^2 * E[g^2], with g the gradient of one sample's loss and the mean over all calibration samples: what
    the loss rises by, up to a factor, if the curvature is that of the Fisher information (LeCun et al., Optimal Brain
    Damage, eq. 5; Theis et al., arXiv:1801.05787). torch-pruning's own keeps the last sample alone.
    `activation`: mean |x| of each channel over samples and places, as convolutions and linear layers are given it.
    """
    weights = scored_weights(network)
    if importance == "activation":
        return _activation(network, calibration)
    if importance == "taylor" or importance == "hessian":
        found = find_loss(loss, f"step prune, importance {importance}")
        return (
            _taylor(network, weights, calibration, found)
            if importance == "taylor"
            else _fisher(network, weights, calibration, found)
        )
    if importance == "bn_scale":
        norms = {name for name, layer in network.named_modules() if isinstance(layer, _NormBase)}
        return {name: weight.detach().abs() for name, weight in weights.items() if name in norms}
    return {name: weight.detach().square() for name, weight in weights.items()}


def score_channels(
    group: ChannelGroup, saliencies: Mapping[str, Tensor], importance: Importance = "magnitude"
) -> Tensor | None:
    """Scores (width,) of a group's channels, with mean 1, so that groups compare; None where no layer has a saliency.

    A channel's score in a layer is the sum over its weights; in the group, the mean over layers. With importance
    `activation` it is the mean over what reads the channel. A group of zeros scores zero.

    Raises:
        PassError: a score is not finite.
    """
    scored = [member for member in group.members if member.layer in saliencies]
    if importance == "activation":
        parts = [_channel_means(member, saliencies[member.layer]) for member in scored if member.side == "in"]
    else:
        parts = [_channel_sums(member, saliencies[member.layer].double()) for member in scored]
    if not parts:
        return None
    scores = torch.stack(parts).mean(0)
    if not scores.isfinite().all():
        raise PassError(
            what="the importance of a channel is not finite",
            where=f"layer {group.root}",
            fix="check the weights and, where the importance looks at them, the calibration samples for infinities",
        )
    mean = scores.mean()
    return scores / mean if mean > 0 else scores


def _channel_sums(member: Member, weights: Tensor) -> Tensor:
    sums = weights.transpose(0, member.axis).flatten(1).sum(1) if weights.dim() > 1 else weights
    return torch.stack([sums[list(indices)].sum() for indices in member.channels])


def _channel_means(member: Member, read: Tensor) -> Tensor:
    """A channel that was flattened is read at several indices."""
    return torch.stack([read[list(indices)].mean() for indices in member.channels])


def scored_weights(network: nn.Module) -> dict[str, nn.Parameter]:
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
    totals = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    batches = -(-len(calibration) // _BATCH)
    for own, gradients in _gradients(network, calibration, loss, _BATCH):
        for name, gradient in gradients.items():
            totals[name] += (own[name].detach() * gradient).abs() / batches
    return totals


def _fisher(
    network: nn.Module, weights: Mapping[str, nn.Parameter], calibration: Samples, loss: LossFunction
) -> dict[str, Tensor]:
    squares = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for _, gradients in _gradients(network, calibration, loss, 1):
        for name, gradient in gradients.items():
            squares[name] += gradient.square()
    return {name: weights[name].detach().square() * total / len(calibration) for name, total in squares.items()}


def _gradients(
    network: nn.Module, calibration: Samples, loss: LossFunction, batch: int
) -> Iterator[tuple[dict[str, nn.Parameter], dict[str, Tensor]]]:
    """Weights, and their gradients of the mean loss of each batch, as far as the loss depends on them."""
    copied = copy.deepcopy(network).eval()
    own = scored_weights(copied)
    for weight in own.values():
        weight.requires_grad_(True)
    for start in range(0, len(calibration), batch):
        inputs, labels = calibration.batch(start, start + batch), calibration.labels[start : start + batch]
        with torch.enable_grad():
            value = loss(copied(*inputs), inputs, labels)
        found = torch.autograd.grad(value, list(own.values()), allow_unused=True)
        yield own, {name: gradient for name, gradient in zip(own, found, strict=True) if gradient is not None}


def _activation(network: nn.Module, calibration: Samples) -> dict[str, Tensor]:
    copied = copy.deepcopy(network).eval()
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def watch(name: str, layer: nn.Module) -> None:
        def add(_layer: nn.Module, given: tuple[Tensor, ...]) -> None:
            channels = given[0].movedim(-1 if isinstance(layer, nn.Linear) else 1, 0).detach().double().abs().flatten(1)
            sums[name] = sums.get(name, torch.zeros(len(channels), dtype=torch.float64)) + channels.sum(1)
            counts[name] = counts.get(name, 0) + channels.shape[1]

        layer.register_forward_pre_hook(add)

    for name, layer in copied.named_modules():
        if isinstance(layer, nn.Linear) or (isinstance(layer, _ConvNd) and layer.groups == 1):
            watch(name, layer)
    with torch.no_grad():
        for start in range(0, len(calibration), _BATCH):
            copied(*calibration.batch(start, start + _BATCH))
    return {name: total / counts[name] for name, total in sums.items()}
