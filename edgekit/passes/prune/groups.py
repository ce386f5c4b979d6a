"""Which channels of which layers can only be cut together, by the dependency graph of torch-pruning.

Only its graph is used: ranking, widths and cutting are ours, so none of its pruners' shared defaults, roundings and
skipped groups matter. Source: Fang et al., DepGraph, arXiv:2301.12900.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
import torch_pruning
from torch import nn

from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.schema.find import suggest


@dataclass(frozen=True)
class Member:
    """One side of a layer in a group: `channels[r]` are its indices that go when channel r of the group goes."""

    layer: str
    side: Literal["out", "in"]
    channels: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are one in several layers. `root` is the first layer, in order of definition, that makes them."""

    root: str
    width: int
    members: tuple[Member, ...]


@dataclass(frozen=True)
class ChannelGroups:
    """Groups that can be cut, and each other root with the reason."""

    groups: tuple[ChannelGroup, ...]
    left: dict[str, str]


def find_groups(model: Model, keep: Sequence[str] = ()) -> ChannelGroups:
    """All groups of channels made by convolutions and linear layers.

    Args:
        keep: layers whose outputs stay, by name; `*` matches any run of characters.

    Raises:
        PassError: `keep` names no layer, or the network cannot be traced.
    """
    network = copy.deepcopy(model.network).eval()
    names = {layer: name for name, layer in network.named_modules()}
    _refuse_unknown(keep, [name for name in names.values() if name])
    graph = _trace(network, model)
    groups: list[ChannelGroup] = []
    left: dict[str, str] = {}
    seen: set[str] = set()
    for layer, name in names.items():
        if name in seen or not isinstance(layer, nn.Conv2d | nn.Linear) or layer not in graph.module2node:
            continue
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            continue  # depthwise: goes with what it reads; other groups: named where that is found
        width = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
        items = _items(graph, layer, range(width))
        reason = next(_reasons(graph, items, names, keep), None)
        if reason is None and _coupled(graph, layer, items, width):
            reason = "some of its channels depend on others of its own"
        members = _members(graph, items, names, width) if reason is None else ()
        seen.update(names[item.layer] for item in items if item.out and item.layer in names)
        if reason is None:
            groups.append(ChannelGroup(name, width, members))
        else:
            left[name] = reason
    for layer, name in names.items():
        if isinstance(layer, nn.Conv2d) and layer.groups > 1 and name not in seen:
            depthwise = layer.groups == layer.in_channels == layer.out_channels
            left[name] = (
                "it is depthwise, on an input" if depthwise else f"it is a convolution in {layer.groups} groups"
            )
    return ChannelGroups(tuple(groups), left)


@dataclass(frozen=True)
class _Item:
    layer: Any  # a layer, a parameter, or an operation of the graph
    out: bool
    ends: bool  # nothing reads it: an output of the network
    indices: list[int]
    roots: list[int | None]


def _trace(network: nn.Module, model: Model) -> torch_pruning.DependencyGraph:
    for parameter in network.parameters():
        parameter.requires_grad_(True)  # the graph follows gradients, and a fixed layer would be a gap in it
    try:
        with torch.enable_grad():
            return torch_pruning.DependencyGraph().build_dependency(network, model.example(), verbose=False)
    except Exception as err:  # the network is the user's code, run inside the library
        raise PassError(
            what=f"the dependencies of the network's channels cannot be traced: {err}",
            where="step prune",
            fix="the network must run, and pass gradients, on a batch of one",
        ) from err


def _items(graph: torch_pruning.DependencyGraph, layer: nn.Module, channels: Sequence[int]) -> list[_Item]:
    pruner = graph.get_pruner_of_module(layer)
    group = graph.get_pruning_group(layer, pruner.prune_out_channels, list(channels))
    items = []
    for item in group.items:
        target, out = item.dep.target, graph.is_out_channel_pruning_fn(item.dep.handler)
        ends = isinstance(target.module, torch_pruning.ops._OutputOp) or (out and not target.outputs)
        items.append(_Item(target.module, out, ends, list(item.idxs), list(item.root_idxs)))
    return items


def _reasons(
    graph: torch_pruning.DependencyGraph, items: list[_Item], names: dict[nn.Module, str], keep: Sequence[str]
) -> Iterator[str]:
    """Why a group cannot be cut, if it cannot."""
    for item in items:
        layer = item.layer
        if item.ends:
            yield "its channels are an output of the network"
        if isinstance(layer, nn.Parameter):
            yield f"a parameter outside a layer, {tuple(layer.shape)}, has its channels"
        if layer not in names:
            continue
        if item.out and any(fnmatchcase(names[layer], pattern) for pattern in keep):
            yield f"option keep names {names[layer]}"
        if isinstance(layer, nn.Conv2d):
            if layer.groups > 1 and not layer.groups == layer.in_channels == layer.out_channels:
                yield f"{names[layer]} is a convolution in {layer.groups} groups"
        elif not isinstance(layer, nn.Linear | nn.BatchNorm2d) and any(True for _ in layer.parameters()):
            yield f"{names[layer]} is a {type(layer).__name__}, which cannot be cut"
        if any(root is None for root in item.roots) or max(item.indices) >= _channels(layer, item.out):
            yield f"its channels cannot be followed into {names[layer]}"


def _channels(layer: nn.Module, out: bool) -> float:
    if isinstance(layer, nn.Conv2d):
        return layer.out_channels if out else layer.in_channels
    if isinstance(layer, nn.Linear):
        return layer.out_features if out else layer.in_features
    return layer.num_features if isinstance(layer, nn.BatchNorm2d) else float("inf")


def _coupled(graph: torch_pruning.DependencyGraph, layer: nn.Module, items: list[_Item], width: int) -> bool:
    """Whether cutting one channel takes others along that the whole group counts apart."""
    for channel in (0, width - 1):
        alone = {(id(item.layer), item.out): sorted(item.indices) for item in _items(graph, layer, [channel])}
        for item in items:
            mine = sorted(i for i, root in zip(item.indices, item.roots, strict=True) if root == channel)
            if alone.get((id(item.layer), item.out), []) != mine:
                return True
    return False


def _members(
    graph: torch_pruning.DependencyGraph, items: list[_Item], names: dict[nn.Module, str], width: int
) -> tuple[Member, ...]:
    members: dict[tuple[str, str], Member] = {}
    for item in items:
        layer = item.layer
        if not isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            continue
        one_set = isinstance(layer, nn.BatchNorm2d) or (isinstance(layer, nn.Conv2d) and layer.groups > 1)
        side: Literal["out", "in"] = "out" if item.out or one_set else "in"
        channels: list[list[int]] = [[] for _ in range(width)]
        for index, root in zip(item.indices, item.roots, strict=True):
            assert root is not None
            channels[root].append(index)
        name = names[layer]
        members.setdefault((name, side), Member(name, side, tuple(tuple(sorted(part)) for part in channels)))
    return tuple(members.values())


def _refuse_unknown(keep: Sequence[str], names: list[str]) -> None:
    for pattern in keep:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise PassError(
                what=f"no layer is called {pattern!r}",
                where="step prune, option keep",
                fix=suggest(pattern, names, "layers"),
            )
