"""Cutting channels out of a layer, by kind of layer. The records that ask for it are in `edits.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from edgekit.errors import ModelError, ShapeError

Side = Literal["out", "in"]
_RECURRENT = "weight_ih_l{0}", "weight_hh_l{0}", "bias_ih_l{0}", "bias_hh_l{0}"


def keep_channels(layer: nn.Module | None, side: Side, indices: Sequence[int], where: str) -> None:
    """Cut a layer in place, with the sizes that it has as attributes.

    A depthwise convolution, a norm and a PReLU have one set of channels: `out` cuts all of it. An embedding's `out` are
    its numbers for a word. The units of an LSTM or a GRU go in all gates of all its layers.

    Raises:
        ModelError: a layer of a kind that has no such channels.
        ShapeError: indices outside the layer, not ascending, or other than in whole groups.
    """
    for kinds, keep in _KINDS:
        if isinstance(layer, kinds):
            keep(layer, side, indices, where)
            return
    raise ModelError(
        f"a {type(layer).__name__} has no channels to keep",
        where,
        "keep channels of convolutions, linear layers, embeddings, norms, PReLU, LSTM, GRU",
    )


def keep_of_tensor(network: nn.Module, name: str, axis: int, indices: Sequence[int], where: str) -> None:
    """Cut an axis of a parameter or buffer that is no part of such a layer.

    Raises:
        ModelError: no tensor has that name.
        ShapeError: no such axis, or indices outside it or not ascending.
    """
    path, _, leaf = name.rpartition(".")
    try:
        owner = network.get_submodule(path)
    except AttributeError:
        owner = nn.Module()
    tensor = owner._parameters.get(leaf, owner._buffers.get(leaf))
    if tensor is None:
        names = [own for own, _ in (*network.named_parameters(), *network.named_buffers())]
        raise ModelError(f"no tensor is called {name!r}", where, f"there are {', '.join(names[:8])}")
    if not 0 <= axis < tensor.dim():
        raise ShapeError(f"axis {axis} of a tensor {tuple(tensor.shape)}", where, f"give 0..{tensor.dim() - 1}")
    _cut(owner, (leaf,), axis, _index(indices, tensor.shape[axis], tensor, where))


def _keep_conv(conv: _ConvNd, side: Side, indices: Sequence[int], where: str) -> None:
    turned = isinstance(conv, _ConvTransposeNd)
    if conv.groups == conv.in_channels == conv.out_channels and conv.groups > 1:
        _refuse_in(side, "depthwise convolution", where)
        kept = _index(indices, conv.out_channels, conv.weight, where)
        _cut(conv, ("weight", "bias"), 0, kept)
        conv.in_channels = conv.out_channels = conv.groups = len(kept)
    elif turned and conv.groups > 1:
        raise ModelError("a transposed convolution in groups", where, "leave its channels whole")
    elif side == "out":
        kept = _index(indices, conv.out_channels, conv.weight, where)
        _per_group(kept, conv.out_channels, conv.groups, where)
        _cut(conv, ("weight",), int(turned), kept)
        _cut(conv, ("bias",), 0, kept)
        conv.out_channels = len(kept)
    else:
        kept = _index(indices, conv.in_channels, conv.weight, where)
        if turned:
            _cut(conv, ("weight",), 0, kept)
        else:
            inside = _per_group(kept, conv.in_channels, conv.groups, where)
            filters = conv.weight.detach().chunk(conv.groups, 0)
            weight = torch.cat([part[:, kept_here] for part, kept_here in zip(filters, inside, strict=True)])
            conv.weight = nn.Parameter(weight, requires_grad=conv.weight.requires_grad)
        conv.in_channels = len(kept)


def _keep_linear(linear: nn.Linear, side: Side, indices: Sequence[int], where: str) -> None:
    if side == "out":
        kept = _index(indices, linear.out_features, linear.weight, where)
        _cut(linear, ("weight", "bias"), 0, kept)
        linear.out_features = len(kept)
    else:
        kept = _index(indices, linear.in_features, linear.weight, where)
        _cut(linear, ("weight",), 1, kept)
        linear.in_features = len(kept)


def _keep_batch_norm(norm: _NormBase, side: Side, indices: Sequence[int], where: str) -> None:
    _refuse_in(side, "batch norm", where)
    kept = _index(indices, norm.num_features, next(iter(norm.state_dict().values()), torch.empty(0)), where)
    _cut(norm, ("weight", "bias", "running_mean", "running_var"), 0, kept)
    norm.num_features = len(kept)


def _keep_group_norm(norm: nn.GroupNorm, side: Side, indices: Sequence[int], where: str) -> None:
    """Whole groups go. A single group is a norm over all channels, which can lose any."""
    _refuse_in(side, "group norm", where)
    like = norm.weight if norm.affine else torch.empty(0)
    kept = _index(indices, norm.num_channels, like, where)
    size = norm.num_channels // norm.num_groups
    groups = len(set((kept // size).tolist()))
    if norm.num_groups > 1 and groups * size != len(kept):
        raise ShapeError(f"{len(kept)} channels are no whole groups of {size}", where, "keep whole groups")
    _cut(norm, ("weight", "bias"), 0, kept)
    norm.num_channels, norm.num_groups = len(kept), groups


def _keep_layer_norm(norm: nn.LayerNorm | nn.RMSNorm, side: Side, indices: Sequence[int], where: str) -> None:
    _refuse_in(side, "norm over the last axis", where)
    if len(norm.normalized_shape) != 1:
        raise ModelError(f"a norm over {len(norm.normalized_shape)} axes", where, "leave its channels whole")
    like = norm.weight if isinstance(norm.weight, Tensor) else torch.empty(0)
    kept = _index(indices, norm.normalized_shape[0], like, where)
    _cut(norm, ("weight", "bias") if isinstance(norm, nn.LayerNorm) else ("weight",), 0, kept)
    norm.normalized_shape = (len(kept),)


def _keep_prelu(layer: nn.PReLU, side: Side, indices: Sequence[int], where: str) -> None:
    _refuse_in(side, "PReLU", where)
    kept = _index(indices, layer.num_parameters, layer.weight, where)
    _cut(layer, ("weight",), 0, kept)
    layer.num_parameters = len(kept)


def _keep_embedding(layer: nn.Embedding, side: Side, indices: Sequence[int], where: str) -> None:
    _refuse_in(side, "table of an embedding", where)
    kept = _index(indices, layer.embedding_dim, layer.weight, where)
    _cut(layer, ("weight",), 1, kept)
    layer.embedding_dim = len(kept)


def _keep_recurrent(layer: nn.LSTM | nn.GRU, side: Side, indices: Sequence[int], where: str) -> None:
    if layer.bidirectional or layer.proj_size:
        raise ModelError("a recurrent layer in both directions or with a projection", where, "leave its units whole")
    weight = layer.weight_ih_l0
    assert isinstance(weight, Tensor)
    if side == "in":
        kept = _index(indices, layer.input_size, weight, where)
        _cut(layer, ("weight_ih_l0",), 1, kept)
        layer.input_size = len(kept)
    else:
        units = layer.hidden_size
        kept = _index(indices, units, weight, where)
        rows = torch.cat([gate * units + kept for gate in range(len(weight) // units)])
        for depth in range(layer.num_layers):
            names = [name.format(depth) for name in _RECURRENT]
            _cut(layer, names if layer.bias else names[:2], 0, rows)
            _cut(layer, names[1:2] if depth == 0 else names[:2], 1, kept)
        layer.hidden_size = len(kept)
    layer._init_flat_weights()  # the list that it computes with


_KINDS: tuple[tuple[tuple[type, ...], Callable[..., None]], ...] = (
    ((_ConvNd,), _keep_conv),
    ((nn.Linear,), _keep_linear),
    ((_NormBase,), _keep_batch_norm),
    ((nn.GroupNorm,), _keep_group_norm),
    ((nn.LayerNorm, nn.RMSNorm), _keep_layer_norm),
    ((nn.PReLU,), _keep_prelu),
    ((nn.Embedding,), _keep_embedding),
    ((nn.LSTM, nn.GRU), _keep_recurrent),
)


def _index(indices: Sequence[int], channels: int, like: Tensor, where: str) -> Tensor:
    ascending = all(a < b for a, b in pairwise(indices))
    if not ascending or indices[0] < 0 or indices[-1] >= channels:
        raise ShapeError(
            f"indices {indices[0]}..{indices[-1]} for {channels} channels",
            where,
            f"give ascending indices in 0..{channels - 1}",
        )
    return torch.tensor(indices, dtype=torch.int64, device=like.device)


def _per_group(kept: Tensor, channels: int, groups: int, where: str) -> list[Tensor]:
    """Indices inside each group; every group must keep the same number."""
    size = channels // groups
    inside = [kept[kept // size == group] - group * size for group in range(groups)]
    if len({len(part) for part in inside}) != 1:
        raise ShapeError(
            f"groups keep {[len(part) for part in inside]} channels", where, "keep the same number in every group"
        )
    return inside


def _cut(layer: nn.Module, names: Sequence[str], axis: int, kept: Tensor) -> None:
    for name in names:
        old = getattr(layer, name)
        if isinstance(old, nn.Parameter):
            setattr(layer, name, nn.Parameter(old.detach().index_select(axis, kept), requires_grad=old.requires_grad))
        elif old is not None:
            setattr(layer, name, old.index_select(axis, kept))


def _refuse_in(side: Side, kind: str, where: str) -> None:
    if side == "in":
        raise ModelError(f"a {kind} has one set of channels", where, "record side 'out' once; it cuts both")
