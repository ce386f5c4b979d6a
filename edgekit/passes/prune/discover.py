"""Which channels of a network can only be cut together, found by following every index through its traced program.

Rules of operators are in `flow_*.py`; whether a network really runs and answers the same without a group's channels is
tried in `groups.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np
from torch import fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from edgekit.errors import ModelError, PassError
from edgekit.nets.model import Model
from edgekit.nets.program import trace_as_written
from edgekit.nets.recurrent import recurrent_network
from edgekit.passes.prune.flow import Flow, follow
from edgekit.passes.prune.flow_layers import LAYER_RULES
from edgekit.passes.prune.flow_moves import MOVE_RULES
from edgekit.passes.prune.flow_sums import SUM_RULES
from edgekit.passes.prune.group import ChannelGroup, Member, Size
from edgekit.passes.prune.labels import Ids, Labels, simplified
from edgekit.schema.find import suggest

_STEPS = 3  # of a recurrent network: what joins its units happens between two steps
_NORMS = (_NormBase, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Found:
    """Groups as the program has them, and the flow that they are from."""

    groups: list[ChannelGroup]
    left: dict[str, str]
    flow: Flow
    classes: dict[str, Ids]  # by root, the number of each channel


def follow_groups(model: Model, keep: Sequence[str] = ()) -> Found:
    """All groups of channels that run through the program without anything that would hold them.

    Args:
        keep: layers whose outputs stay, by name; `*` matches any run of characters.

    Raises:
        PassError: `keep` names no layer, or the network cannot be traced.
    """
    network = model.network
    layers = {name: layer for name, layer in network.named_modules() if name}
    _refuse_unknown(keep, list(layers))
    flow = _flow(model)
    _freeze_tied(flow, network)
    _freeze_named(flow, layers, keep)
    _settle(flow)
    sides = list(_sides(flow, layers))
    groups: list[ChannelGroup] = []
    classes: dict[str, Ids] = {}
    inexact = set(np.concatenate([flow.channels.find(ids) for ids in flow.inexact] or [np.zeros(0, np.int64)]).tolist())
    for numbers in _alike(flow):
        members = tuple(_members(flow, sides, numbers))
        made = [member for member in members if member.side == "out"]
        if len(numbers) < 2 or not made:
            continue
        root = _root(made, layers)
        while root in classes:
            root += "'"  # another group of the same layer's channels
        order = _ordered(members, root.rstrip("'"), numbers)
        members = tuple(_members(flow, sides, numbers[order]))
        unit = min(len(member.channels[0]) for member in members if not _in_groups(layers.get(member.layer), member))
        sizes = tuple(_sizes(flow, network, numbers[order]))
        exact = not inexact & set(numbers.tolist())
        groups.append(ChannelGroup(root, len(numbers), members, unit, sizes, exact))
        classes[root] = numbers[order]
    place = {name: i for i, name in enumerate(layers)}
    groups.sort(key=lambda group: place.get(group.root.rstrip("'"), -1))
    left = {name: reason for name, reason in _left(flow, sides, layers).items() if name not in classes}
    return Found(groups, left, flow, classes)


def _flow(model: Model) -> Flow:
    if recurrent_network(model) is not None:
        sequence = model.inputs[0]
        short = (sequence.shape[0], min(_STEPS, sequence.shape[1]), *sequence.shape[2:])
        inputs = (sequence.model_copy(update={"shape": short}),)
        model = Model(model.network, model.source.model_copy(update={"inputs": inputs}), model.outputs)
    try:
        program = trace_as_written(model)
    except ModelError as err:
        raise PassError(
            what=f"the dependencies of the network's channels cannot be traced: {err.what}",
            where=err.where,
            fix=err.fix,
        ) from err
    named = (*model.network.named_parameters(), *model.network.named_buffers())
    return follow(program.module, {name for name, _ in named}, {**LAYER_RULES, **MOVE_RULES, **SUM_RULES})


def _freeze_tied(flow: Flow, network: nn.Module) -> None:
    owners: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name)
    for names in owners.values():
        for name in names if len(names) > 1 else ():
            if name in flow.tensors:
                flow.freeze(flow.tensors[name], f"layers share the tensor {names[0]}")


def _freeze_named(flow: Flow, layers: Mapping[str, nn.Module], keep: Sequence[str]) -> None:
    for name, labels in flow.tensors.items():
        path, _, leaf = name.rpartition(".")
        if not any(fnmatchcase(path, pattern) for pattern in keep):
            continue
        for part in labels.parts:
            if _side(layers.get(path), leaf, part.axes[0]) != "in":
                flow.channels.freeze(part.ids, f"option keep names {path}")


def _settle(flow: Flow) -> None:
    """Channels that still run along several axes of a tensor run along the last one: as many go in every piece."""
    while True:
        wide = [
            part
            for value in flow.values.values()
            for labels in (value if isinstance(value, list) else [value])
            for part in simplified(labels, flow.channels).parts
            if len(part.axes) > 1
        ]
        if not wide:
            return
        for part in wide:
            flow.channels.join_along(part.ids, 0)


@dataclass(frozen=True)
class _Side:
    layer: str
    side: Literal["out", "in"]
    axis: int
    ids: Ids


def _side(layer: nn.Module | None, leaf: str, axis: int) -> Literal["out", "in"] | None:
    """What an axis of a tensor of a layer is; None where the layer is none whose channels `Keep` cuts."""
    if isinstance(layer, nn.Linear | _ConvNd):
        turned = isinstance(layer, _ConvTransposeNd)
        return "in" if leaf == "weight" and axis == (0 if turned else 1) else "out"
    if isinstance(layer, (*_NORMS, nn.PReLU)):
        return "out"
    return None if not isinstance(layer, nn.Embedding) else "out" if axis == 1 else "in"


def _sides(flow: Flow, layers: Mapping[str, nn.Module]) -> Iterator[_Side]:
    """Every axis with labels: of layers their weights', of anything else every tensor's; layers in order."""
    place = {name: i for i, name in enumerate(layers)}
    names = sorted(flow.tensors, key=lambda name: place.get(name.rpartition(".")[0], -1))
    for name in names:
        path, _, leaf = name.rpartition(".")
        layer = layers.get(path)
        for part in flow.tensors[name].parts:
            (axis,) = part.axes
            side = _side(layer, leaf, axis)
            if side is None:
                read = flow.channels.find(np.concatenate([*flow.readers.get(name, []), np.zeros(0, np.int64)]))
                reads = axis > 0 and bool(np.isin(flow.channels.find(part.ids), read).all())
                yield _Side(name, "in" if reads else "out", axis, part.ids)
            elif leaf == "weight" and axis < 2:  # the others are places of a kernel
                yield _Side(path, side, axis, part.ids)
    for node, ids in flow.normed:
        path = _paths(node)[-1]
        layer = layers.get(path)
        if isinstance(layer, _NORMS) and "weight" not in layer.state_dict():
            yield _Side(path, "out", 0, ids)


def _alike(flow: Flow) -> Iterator[Ids]:
    """Channels that stand in the same tensors, as often, and may go: the numbers of each group."""
    signatures: dict[int, list[tuple[int, int, int, int]]] = {}
    values = [*flow.tensors.values(), *flow.values.values()]
    for number, value in enumerate(values):
        for output, labels in enumerate(value if isinstance(value, list) else [value]):
            for part in simplified(labels, flow.channels).parts:
                ids, counts = np.unique(flow.channels.find(part.ids), return_counts=True)
                for one, count in zip(ids.tolist(), counts.tolist(), strict=True):
                    signatures.setdefault(one, []).append((number, output, part.axes[0], count))
    alike: dict[tuple[tuple[int, int, int, int], ...], list[int]] = {}
    for one, signature in signatures.items():
        if flow.channels.reason(one) is None:
            alike.setdefault(tuple(signature), []).append(one)
    for numbers in alike.values():
        yield np.array(sorted(numbers))


def _members(flow: Flow, sides: Sequence[_Side], numbers: Ids) -> Iterator[Member]:
    for side in sides:
        found = flow.channels.find(side.ids)
        if not np.isin(found, numbers).any():
            continue
        channels = tuple(tuple(np.flatnonzero(found == one).tolist()) for one in numbers)
        yield Member(side.layer, side.side, channels, side.axis)


def _root(made: Sequence[Member], layers: Mapping[str, nn.Module]) -> str:
    """The first layer that makes the channels; the module of the first tensor where no layer does."""
    for member in made:
        layer = layers.get(member.layer)
        if isinstance(layer, nn.Linear | nn.Embedding) or (isinstance(layer, _ConvNd) and not _is_depthwise(layer)):
            return member.layer
    first = next((member.layer for member in made if member.layer not in layers), made[0].layer)
    return first if first in layers else first.rpartition(".")[0] or first


def _in_groups(layer: nn.Module | None, member: Member) -> bool:
    """Whether an index of a weight is a channel of every group of a convolution."""
    return member.side == "in" and isinstance(layer, _ConvNd) and layer.groups > 1


def _is_depthwise(conv: _ConvNd) -> bool:
    return 1 < conv.groups == conv.in_channels == conv.out_channels


def _ordered(members: Sequence[Member], root: str, numbers: Ids) -> list[int]:
    """Places of the channels by their first index in the root."""
    first = next(m for m in members if m.side == "out" and (m.layer == root or m.layer.startswith(root)))
    return sorted(range(len(numbers)), key=lambda place: first.channels[place])


def _paths(node: fx.Node) -> list[str]:
    """Modules that an operator runs in, the innermost last."""
    return ["", *(path for path, _ in (node.meta.get("nn_module_stack") or {}).values())]


def _sizes(flow: Flow, network: nn.Module, numbers: Ids) -> Iterator[Size]:
    """Numbers of modules that are as large as an axis with these channels, where an operator of theirs meets it."""
    seen: dict[tuple[str, str], Size] = {}
    for node, value in flow.values.items():
        for labels in value if isinstance(value, list) else [value]:
            for axis, step in _steps(flow, labels, numbers):
                for path in dict.fromkeys(_paths(node)):
                    for name, number in _numbers(network, path):
                        if number == labels.shape[axis]:
                            seen.setdefault((path, name), Size(path, name, step))
    yield from seen.values()


def _steps(flow: Flow, labels: Labels, numbers: Ids) -> Iterator[tuple[int, int]]:
    """Axes of these channels alone, and how many indices of it each has, where all have as many."""
    for part in simplified(labels, flow.channels).parts:
        ids, counts = np.unique(part.ids, return_counts=True)
        if np.isin(ids, numbers).all() and (counts == counts[0]).all():
            yield part.axes[0], int(counts[0])


def _numbers(network: nn.Module, path: str) -> list[tuple[str, int]]:
    try:
        module = network.get_submodule(path)
    except AttributeError:
        return []
    if type(module).__module__.startswith("torch.nn."):
        return []  # `Keep` knows them
    return [(name, value) for name, value in vars(module).items() if type(value) is int]


def _left(flow: Flow, sides: Sequence[_Side], layers: Mapping[str, nn.Module]) -> dict[str, str]:
    """Layers whose own channels must stay; of those that share them, the first."""
    left: dict[str, str] = {}
    seen: set[int] = set()
    for side in sides:
        layer = layers.get(side.layer)
        if side.side == "in" or not isinstance(layer, nn.Linear | _ConvNd | nn.Embedding):
            continue
        numbers = set(np.unique(flow.channels.find(side.ids)).tolist())
        reasons = [reason for one in sorted(numbers) if (reason := flow.channels.reason(one)) is not None]
        if reasons and not numbers & seen:
            left[side.layer] = reasons[0]
        elif len(numbers) == 1 and len(side.ids) > 1 and not numbers & seen:
            left[side.layer] = "its channels depend on one another"
        seen |= numbers
    return left


def _refuse_unknown(keep: Sequence[str], names: list[str]) -> None:
    for pattern in keep:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise PassError(
                what=f"no layer is called {pattern!r}",
                where="step prune, option keep",
                fix=suggest(pattern, names, "layers"),
            )
