"""The edits that cut chosen channels of groups out of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from edgekit.nets.edits import Edit, Keep, KeepOfTensor, Resize
from edgekit.nets.model import Model
from edgekit.passes.prune.group import ChannelGroup


def keep_edits(model: Model, groups: Sequence[ChannelGroup], removed: Mapping[str, Sequence[int]]) -> list[Edit]:
    """One edit for each side of each layer that loses channels, with indices of the given model's layers.

    Then one for each axis of every other tensor, and for each whole number that code takes a size from.
    """
    cut: dict[tuple[str, str, int], set[int]] = {}
    less: dict[tuple[str, str], int] = {}
    for group in groups:
        gone = removed[group.root]
        for member in group.members:
            for channel in gone:
                cut.setdefault((member.layer, member.side, member.axis), set()).update(member.channels[channel])
        for size in group.sizes if gone else ():
            key = size.layer, size.attribute
            less[key] = less.get(key, 0) + size.step * len(gone)
    layers = dict(model.network.named_modules())
    place = {name: i for i, name in enumerate(layers)}
    edits: list[Edit] = []
    others: list[Edit] = []
    for (name, side, axis), indices in sorted(
        cut.items(), key=lambda item: (place.get(item[0][0], -1), -len(item[0][1]))
    ):
        if name in layers:
            edits.append(_of_layer(name, layers[name], side, axis, indices))
        else:
            others += _of_tensor(model.network, name, axis, indices)
    for (name, attribute), count in less.items():
        others.append(Resize(layer=name, attribute=attribute, size=getattr(layers[name], attribute) - count))
    return edits + others


def _of_layer(name: str, layer: nn.Module, side: str, axis: int, indices: set[int]) -> Keep:
    width = _width(layer, axis)
    kept = [index for index in range(width) if index not in indices]
    if isinstance(layer, _ConvNd) and side == "in" and layer.groups > 1:
        kept = [group * width + index for group in range(layer.groups) for index in kept]
    return Keep.model_validate({"layer": name, "side": side, "indices": kept})


def _width(layer: nn.Module, axis: int) -> int:
    weight = layer.weight
    if isinstance(weight, Tensor):
        return weight.shape[axis]
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        return layer.normalized_shape[0]
    width = layer.num_channels if isinstance(layer, nn.GroupNorm) else layer.num_features
    assert isinstance(width, int)
    return width


def _of_tensor(network: nn.Module, name: str, axis: int, indices: set[int]) -> list[Edit]:
    path, _, leaf = name.rpartition(".")
    owner = network.get_submodule(path)
    tensor = getattr(owner, leaf)
    kept = tuple(index for index in range(tensor.shape[axis]) if index not in indices)
    if isinstance(owner, nn.LSTM | nn.GRU):  # two of its tensors say all: its units, and what it reads
        sides = {("weight_hh_l0", 1): "out", ("weight_ih_l0", 1): "in"}
        side = sides.get((leaf, axis))
        return [] if side is None else [Keep.model_validate({"layer": path, "side": side, "indices": kept})]
    return [KeepOfTensor(tensor=name, axis=axis, indices=kept)]
