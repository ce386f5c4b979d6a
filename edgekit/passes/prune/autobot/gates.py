"""Gates: one number in [0, 1] for each channel of each group, which what reads the channel is multiplied by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.passes.prune.group import ChannelGroup

# Axes behind the channels in what the layer reads.
_READERS: Mapping[type[nn.Module], int] = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3, nn.Linear: 0}


def why_not_gated(group: ChannelGroup, network: nn.Module) -> str | None:
    """Why no gate can stand for the cut of a channel of this group; None where one can.

    A gate is as good as the cut only where the network without a channel answers as if nothing read it, and where all
    that reads it are inputs of layers. What a recurrent layer reads is its own output too.
    """
    if not group.exact:
        return "a norm takes means over its channels, so that a gate does not stand for a cut"
    layers = dict(network.named_modules())
    readers = [member.layer for member in group.members if member.side == "in"]
    for name in readers:
        layer = layers.get(name)
        if layer is None:
            return f"the tensor {name} reads its channels, and a gate stands before a layer"
        if type(layer) not in _READERS or (not isinstance(layer, nn.Linear) and layer.groups != 1):
            return f"{name} reads its channels, a {type(layer).__name__} that no gate can stand before"
    return None if readers else "no layer whose inputs can be gated reads its channels"


@dataclass(frozen=True)
class _Reader:
    layer: nn.Module
    gates: Tensor  # (C_in,), for each input the place of its gate among all; the last place is of what has none
    axes_behind: int


class Gates:
    """The gates of a network, one vector for each group, all in one tensor in the order of the groups.

    The published code multiplies what a layer makes, behind its activation. We multiply what every layer reads, channel
    by channel: the same for a chain of layers, since nothing stands between the two; and where channels go through a
    sum, a concatenation, a depthwise convolution or an activation with f(0) != 0 before they are read, a closed gate
    still is exactly what the cut will be, without knowing what stands between. Open gates change no bit: x * 1 is x.

    Groups come from the dependency graph, so all layers of a residual stage share one vector, and a depthwise
    convolution has that of its input.
    """

    def __init__(self, network: nn.Module, groups: Sequence[ChannelGroup]) -> None:
        self.groups = tuple(groups)
        self._readers = _readers(network, self.groups)

    def __len__(self) -> int:
        """How many gates there are."""
        return sum(group.width for group in self.groups)

    def by_group(self, values: Tensor) -> dict[str, Tensor]:
        """The vectors (width,) of all gates (len(self),), by the group's root."""
        ends = accumulate(group.width for group in self.groups)
        return {group.root: values[end - group.width : end] for group, end in zip(self.groups, ends, strict=True)}

    @contextmanager
    def applied(self, values: Tensor) -> Iterator[None]:
        """The network computes with gates at `values` (len(self),) inside, and as it was outside."""
        with_open = torch.cat([values, values.new_ones(1)])
        handles = [
            reader.layer.register_forward_pre_hook(_multiplied(with_open, reader), with_kwargs=True)
            for reader in self._readers
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _readers(network: nn.Module, groups: Sequence[ChannelGroup]) -> list[_Reader]:
    ungated = sum(group.width for group in groups)
    places: dict[str, Tensor] = {}
    first = 0
    for group in groups:
        for member in group.members:
            if member.side == "in":
                width = _inputs(network.get_submodule(member.layer))
                own = places.setdefault(member.layer, torch.full((width,), ungated))
                for channel, indices in enumerate(member.channels):
                    own[list(indices)] = first + channel
        first += group.width
    layers = {name: network.get_submodule(name) for name in places}
    return [_Reader(layer, places[name], _READERS[type(layer)]) for name, layer in layers.items()]


def _inputs(layer: nn.Module) -> int:
    width = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    assert isinstance(width, int)
    return width


def _multiplied(gates: Tensor, reader: _Reader) -> Any:
    def hook(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
        gate = gates[reader.gates.to(gates.device)].reshape(-1, *[1] * reader.axes_behind)
        if args:
            return (args[0] * gate.to(args[0].dtype), *args[1:]), kwargs
        return args, {**kwargs, "input": kwargs["input"] * gate.to(kwargs["input"].dtype)}

    return hook
