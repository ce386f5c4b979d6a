"""Numbers that a network with its channels in part would store: parameters, or bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from edgekit.passes.prune.autobot.counts import Axis, kept_counts
from edgekit.passes.prune.group import ChannelGroup


@dataclass(frozen=True)
class GatedTensors:
    """The sum over tensors of what each weighs: a constant times the lengths of those of its axes that are cut.

    Attributes:
        whole: length of each axis.
        tensors: the constant of each, and its axes.
    """

    groups: Sequence[ChannelGroup]
    whole: Mapping[Axis, int]
    tensors: Sequence[tuple[float, tuple[Axis, ...]]]

    @classmethod
    def parameters(cls, network: nn.Module, groups: Sequence[ChannelGroup]) -> GatedTensors:
        """As `count_params` counts: each parameter once."""
        return cls._of(groups, {name: (tensor, 1) for name, tensor in network.named_parameters()})

    @classmethod
    def stored_bytes(cls, network: nn.Module, groups: Sequence[ChannelGroup]) -> GatedTensors:
        """Bytes of all that `state_dict` holds."""
        state = network.state_dict()
        return cls._of(groups, {name: (tensor, tensor.element_size()) for name, tensor in state.items()})

    @classmethod
    def _of(cls, groups: Sequence[ChannelGroup], weighed: Mapping[str, tuple[Tensor, int]]) -> GatedTensors:
        cut = {(member.layer, member.axis) for group in groups for member in group.members}
        made = {member.layer: member.axis for group in groups for member in group.members if member.side == "out"}
        whole: dict[Axis, int] = {}
        tensors = []
        for name, (tensor, weight) in weighed.items():
            lengths = {axis: length for axis, length in _axes(name, tensor, made) if axis in cut}
            whole.update(lengths)
            tensors.append((weight * tensor.numel() / math.prod(lengths.values()), tuple(lengths)))
        return cls(groups, whole, tensors)

    def total(self, kept: Mapping[str, Any]) -> Any:
        """See `Cost`."""
        counts = kept_counts(self.groups, self.whole, kept)
        total: Any = 0
        for each, axes in self.tensors:
            total = total + each * math.prod(counts[axis] for axis in axes)
        return total


def _axes(name: str, tensor: Tensor, made: Mapping[str, int]) -> list[tuple[Axis, int]]:
    """The axes of a tensor: its own, and its layer's. A vector of a layer, as its bias, is as long as what it makes.

    Args:
        made: of each layer, the axis of its weight that it makes channels along.
    """
    layer = name.rpartition(".")[0]
    own = [((name, axis), length) for axis, length in enumerate(tensor.shape)]
    if tensor.dim() == 1:
        return [*own, ((layer, made.get(layer, 0)), len(tensor))]
    return [*own, *(((layer, axis), length) for axis, length in enumerate(tensor.shape))]
