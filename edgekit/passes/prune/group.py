"""What a group of channels is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Member:
    """One side of a layer in a group: `channels[r]` are its indices that go when channel r of the group goes.

    Attributes:
        layer: its name; of a tensor that no layer of PyTorch's own has, and of those of an LSTM or GRU, the tensor's.
        side: whether the channels are made or read there.
        axis: of the layer's weight, or of the tensor, that `channels` are indices of.
    """

    layer: str
    side: Literal["out", "in"]
    channels: tuple[tuple[int, ...], ...]
    axis: int = 0


@dataclass(frozen=True)
class Size:
    """A whole number of a module that its code takes a size from; a channel less of the group is `step` less of it."""

    layer: str
    attribute: str
    step: int


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are one in several layers. `root` is the first layer, in order of definition, that makes them.

    Attributes:
        width: how many there are. Of an attention layer these are its heads, of a norm in groups the groups.
        unit_size: channels of a layer that one of them is, at least: of heads, the width of a head.
        sizes: what becomes less besides.
        exact: whether the network answers without them as if nothing read them; a norm over them answers otherwise.
    """

    root: str
    width: int
    members: tuple[Member, ...]
    unit_size: int = 1
    sizes: tuple[Size, ...] = ()
    exact: bool = True


@dataclass(frozen=True)
class ChannelGroups:
    """Groups that can be cut, and each other root with the reason."""

    groups: tuple[ChannelGroup, ...]
    left: dict[str, str]
