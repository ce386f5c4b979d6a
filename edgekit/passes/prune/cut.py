"""The edits that cut chosen channels of groups out of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgekit.nets.edits import Keep
from edgekit.nets.model import Model
from edgekit.passes.prune.groups import ChannelGroup


def keep_edits(model: Model, groups: Sequence[ChannelGroup], removed: Mapping[str, Sequence[int]]) -> list[Keep]:
    """One edit for each side of each layer that loses channels, with indices of the given model's layers."""
    cut: dict[tuple[str, str], set[int]] = {}
    for group in groups:
        for member in group.members:
            for channel in removed[group.root]:
                cut.setdefault((member.layer, member.side), set()).update(member.channels[channel])
    edits = []
    for name, layer in model.network.named_modules():
        for side, axis in (("out", 0), ("in", 1)):
            gone = cut.get((name, side))
            if gone:
                tensor = next(iter(layer.state_dict().values()))
                kept = tuple(index for index in range(tensor.shape[axis]) if index not in gone)
                edits.append(Keep.model_validate({"layer": name, "side": side, "indices": kept}))
    return edits
