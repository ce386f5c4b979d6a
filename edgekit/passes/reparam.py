"""Structural re-parameterisation: what is one linear map in eval mode becomes one layer.

RepVGG blocks become one 3x3 convolution; a batch norm goes into the convolution or linear layer before it. Where these
pairs are is read from the traced program in `norm_pairs.py`; the arithmetic is in `numerics/`.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from edgekit.errors import PassError
from edgekit.nets.blocks import RepVGGBlock
from edgekit.nets.edits import Edit, Replace, apply_edits
from edgekit.nets.model import Model
from edgekit.numerics.fold import NormStats, fold_batch_norm
from edgekit.numerics.merge import Branch, merge_repvgg
from edgekit.passes.context import Context
from edgekit.passes.equality import EXACT_RATIO, check_network, refuse_difference, relative_error
from edgekit.passes.norm_pairs import NormPair, find_norm_pairs
from edgekit.schema.passes import ReparamOptions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Change:
    """Edits, and the weights of the layer that they leave in place of several."""

    edits: tuple[Edit, ...]
    layer: str
    weight: Tensor
    bias: Tensor


def reparam(model: Model, options: ReparamOptions, context: Context) -> Model:
    """The same function in fewer layers. Norms that cannot be folded stay, and are logged with the reason.

    Every merged layer, and then the network on random inputs and on calibration samples, must give what it gave:
    to 1e-9 of the largest output in float64, to `options.tolerance` in float32.

    Raises:
        PassError: a RepVGG block cannot be merged, a norm is in training mode, or outputs changed.

    Source: Ding et al., RepVGG, arXiv:2101.03697, section 3.3.
    """
    _refuse_training(model.network)
    blocks = [
        name for name, layer in model.network.named_modules() if isinstance(layer, RepVGGBlock) and not layer.merged
    ]
    merged, block_edits = _apply(model.network, (_merge_block(model.network, name) for name in blocks))
    found = find_norm_pairs(replace(model, network=merged))
    folded, pair_edits = _apply(merged, (_fold_pair(merged, pair) for pair in found.pairs))

    exact = copy.deepcopy(model.network).double()
    exact_merged, _ = _apply(exact, (_merge_block(exact, name) for name in blocks))
    exact_folded, _ = _apply(exact_merged, (_fold_pair(exact_merged, pair) for pair in found.pairs))

    for old, new, tolerance in ((model.network, merged, options.tolerance), (exact, exact_merged, EXACT_RATIO)):
        for name in blocks:
            _check_layer(name, old.get_submodule(name), new.get_submodule(name), tolerance)
    for old, new, tolerance in ((merged, folded, options.tolerance), (exact_merged, exact_folded, EXACT_RATIO)):
        for pair in found.pairs:
            before = nn.Sequential(old.get_submodule(pair.layer), old.get_submodule(pair.norm)).eval()
            _check_layer(f"{pair.layer} and {pair.norm}", before, new.get_submodule(pair.layer), tolerance)
    error = check_network(model, folded, exact, exact_folded, context, "reparam", options.tolerance)
    logger.info(
        "reparam: %d blocks merged, %d norms folded, largest relative difference %.1e",
        len(blocks),
        len(found.pairs),
        error,
    )
    for norm, reason in found.left.items():
        logger.info("reparam: norm %s stays: %s", norm, reason)
    return model.with_(folded, "reparam", [*block_edits, *pair_edits])


def _refuse_training(network: nn.Module) -> None:
    for name, layer in network.named_modules():
        if layer.training and isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise PassError(
                what="a batch norm is in training mode, so its output depends on the batch",
                where=f"layer {name}",
                fix="call network.eval() before; only fixed statistics can be merged",
            )


def _apply(network: nn.Module, changes: Iterable[_Change]) -> tuple[nn.Module, list[Edit]]:
    """A copy with all changes done, and the edits that replay its structure."""
    listed = list(changes)
    edits = [edit for change in listed for edit in change.edits]
    changed = apply_edits(network, edits)
    with torch.no_grad():
        for change in listed:
            layer = changed.get_submodule(change.layer)
            assert isinstance(layer, nn.Conv2d | nn.Linear)
            assert layer.bias is not None
            layer.weight.copy_(change.weight)
            layer.bias.copy_(change.bias)
    return changed, edits


def _merge_block(network: nn.Module, name: str) -> _Change:
    block = network.get_submodule(name)
    assert isinstance(block, RepVGGBlock)
    conv3, conv1 = block.conv3, block.conv1
    _refuse_unmergeable(name, block)
    assert conv3 is not None
    assert conv1 is not None
    identity = None if block.bn_identity is None else NormStats.of(block.bn_identity)
    weight, bias = merge_repvgg(_branch(conv3, block.bn3), _branch(conv1, block.bn1), identity, conv3.groups)
    branches = ("conv3", "bn3", "conv1", "bn1", "bn_identity")
    removed = [Replace(layer=f"{name}.{part}", by="none") for part in branches if getattr(block, part) is not None]
    return _Change(
        edits=(Replace(layer=f"{name}.conv", by="conv2d", arguments=_conv_arguments(conv3)), *removed),
        layer=f"{name}.conv",
        weight=weight,
        bias=bias,
    )


def _branch(conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> Branch:
    bias = None if conv.bias is None else conv.bias.detach()
    return Branch(conv.weight.detach(), bias, None if norm is None else NormStats.of(norm))


def _refuse_unmergeable(name: str, block: RepVGGBlock) -> None:
    reason = _why_unmergeable(block)
    if reason is not None:
        raise PassError(
            what=f"the block cannot become one convolution: {reason}",
            where=f"layer {name}",
            fix="build its branches as RepVGGBlock does, or drop the reparam step",
        )


def _why_unmergeable(block: RepVGGBlock) -> str | None:
    conv3, conv1 = block.conv3, block.conv1
    if type(conv3) is not nn.Conv2d or type(conv1) is not nn.Conv2d:
        return f"its branches are {type(conv3).__name__} and {type(conv1).__name__}, not two Conv2d"
    for label, norm in (("bn3", block.bn3), ("bn1", block.bn1), ("bn_identity", block.bn_identity)):
        if norm is not None and type(norm) is not nn.BatchNorm2d:
            return f"{label} is a {type(norm).__name__}, not a BatchNorm2d"
        if norm is not None and not norm.track_running_stats:
            return f"{label} keeps no running statistics"
    rules: tuple[tuple[str, Callable[[nn.Conv2d], object], object, object], ...] = (
        ("kernel", lambda conv: conv.kernel_size, (3, 3), (1, 1)),
        ("padding", lambda conv: conv.padding, (1, 1), (0, 0)),
        ("dilation", lambda conv: conv.dilation, (1, 1), (1, 1)),
        ("padding mode", lambda conv: conv.padding_mode, "zeros", "zeros"),
        ("stride", lambda conv: conv.stride, conv3.stride, conv3.stride),
        ("groups", lambda conv: conv.groups, conv3.groups, conv3.groups),
    )
    for label, read, wanted3, wanted1 in rules:
        if (read(conv3), read(conv1)) != (wanted3, wanted1):
            return f"{label} of conv3 and conv1 are {read(conv3)} and {read(conv1)}, not {wanted3} and {wanted1}"
    return None


def _fold_pair(network: nn.Module, pair: NormPair) -> _Change:
    layer, norm = network.get_submodule(pair.layer), network.get_submodule(pair.norm)
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    weight, bias = fold_batch_norm(layer.weight.detach(), layer.bias, NormStats.of(norm))
    edits: list[Edit] = [Replace(layer=pair.norm, by="identity")]
    biased = layer.bias is not None
    if not biased and isinstance(layer, nn.Conv2d):
        edits.append(Replace(layer=pair.layer, by="conv2d", arguments=_conv_arguments(layer)))
    elif not biased and isinstance(layer, nn.Linear):
        sizes = {"in_features": layer.in_features, "out_features": layer.out_features, "bias": True}
        edits.append(Replace(layer=pair.layer, by="linear", arguments=sizes))
    return _Change(tuple(edits), pair.layer, weight, bias.detach())


def _conv_arguments(conv: nn.Conv2d) -> dict[str, object]:
    """The same convolution with a bias, as plain data."""
    return {
        "in_channels": conv.in_channels,
        "out_channels": conv.out_channels,
        "kernel_size": list(conv.kernel_size),
        "stride": list(conv.stride),
        "padding": conv.padding if isinstance(conv.padding, str) else list(conv.padding),
        "dilation": list(conv.dilation),
        "groups": conv.groups,
        "bias": True,
        "padding_mode": conv.padding_mode,
    }


def _check_layer(name: str, old: nn.Module, new: nn.Module, tolerance: float) -> None:
    first = next(layer for layer in old.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
    generator = torch.Generator().manual_seed(0)
    shape: tuple[int, ...] = (4, first.in_features) if isinstance(first, nn.Linear) else (4, first.in_channels, 13, 11)
    if isinstance(first, nn.Conv2d):  # at least what the kernel spans
        spans = [d * (k - 1) + 1 for d, k in zip(first.dilation, first.kernel_size, strict=True)]
        shape = (*shape[:2], *map(max, shape[2:], spans))
    x = torch.randn(shape, generator=generator, dtype=first.weight.dtype)
    with torch.no_grad():
        error = relative_error(old(x), new(x))
    refuse_difference(error, "reparam", f"layer {name}", first.weight.dtype, tolerance)
