"""What can be cut out of a network, and in which order the channels of a group would go."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from edgekit.nets.edits import Edit, KeepOfTensor, Replace, apply_edits
from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.passes.prune.autobot.gates import why_not_gated
from edgekit.passes.prune.blocks import find_blocks
from edgekit.passes.prune.cut import keep_edits
from edgekit.passes.prune.group import ChannelGroup
from edgekit.passes.prune.groups import find_groups
from edgekit.passes.prune.importance import saliency, score_channels
from edgekit.passes.prune.widths import Removed, group_widths, lowest
from edgekit.schema.prune import PruneOptions
from edgekit.schema.pruned import PrunedGroup, PruneRow

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cuts:
    """Channels of groups that go, and blocks."""

    removed: Removed
    blocks: Sequence[str] = ()

    @property
    def outermost(self) -> tuple[str, ...]:
        """The blocks that are not inside another one that goes."""
        return tuple(one for one in self.blocks if not _inside(one, [other for other in self.blocks if other != one]))


@dataclass(frozen=True)
class Candidates:
    """Groups of channels, and blocks.

    Attributes:
        scores: of each group's channels, (width,), by the group's root.
        widths: what each group may keep, falling from its whole width.
        blocks: names of modules that may go as a whole.
        multiple: of which all widths but the whole ones are multiples.
        left: groups that are not among these, with the reason.
    """

    model: Model
    groups: Sequence[ChannelGroup]
    scores: Mapping[str, Tensor]
    widths: Mapping[str, Sequence[int]]
    blocks: Sequence[str]
    multiple: int
    left: Mapping[str, str]

    def removed(self, kept: Mapping[str, int]) -> Removed:
        """The channels that go when groups keep so many; a group that is not named keeps all."""
        return {group.root: lowest(self.scores[group.root], kept.get(group.root, group.width)) for group in self.groups}

    def edits(self, cuts: Cuts) -> list[Edit]:
        """What takes these channels and blocks out of the network."""
        kept = [e for e in keep_edits(self.model, self.groups, cuts.removed) if not _inside(_place(e), cuts.outermost)]
        return [*kept, *(Replace(layer=block, by="skip") for block in cuts.outermost)]

    def cut(self, cuts: Cuts) -> Model:
        """The network without them."""
        edits = self.edits(cuts)
        return self.model.with_(apply_edits(self.model.network, edits), "prune", edits)

    def row(self, cuts: Cuts, options: PruneOptions) -> PruneRow:
        """What the manifest says of it."""
        budget = options.budget
        groups = [
            PrunedGroup(name=group.root, before=group.width, after=group.width - len(cuts.removed[group.root]))
            for group in self.groups
            if not _inside(group.root, cuts.outermost)
        ]
        return PruneRow(
            method=options.chosen_method,
            budget_name=budget and budget.name,
            budget=budget and budget.limit,
            groups=tuple(groups),
            blocks=cuts.outermost,
            whole=dict(self.left),
        )


def find_candidates(model: Model, options: PruneOptions, context: Context) -> Candidates:
    """All groups that an allowed width is below, and all blocks that options let go; the rest is logged.

    Raises:
        PassError: the network cannot be traced, or option keep names nothing in it.
    """
    multiple = options.multiple_of or int(context.target.channel_multiple.value)
    found = find_groups(model, options.keep)
    left = dict(found.left)
    gated = options.chosen_method == "autobot"
    calibration = context.splits.calibration
    saliencies = {} if gated else saliency(model.network, options.importance, calibration, options.loss)
    groups: list[ChannelGroup] = []
    scores: dict[str, Tensor] = {}
    widths: dict[str, Sequence[int]] = {}
    for group in found.groups:
        allowed = group_widths(group, multiple, options.min_keep_ratio)
        score = torch.ones(group.width) if gated else score_channels(group, saliencies, options.importance)
        reason = why_not_gated(group, model.network) if gated else None
        if reason is not None:
            left[group.root] = reason
        elif score is None:
            left[group.root] = f"importance {options.importance} says nothing of it"
        elif len(allowed) == 1:
            left[group.root] = (
                f"no multiple of {multiple} below its {group.width} channels keeps {options.min_keep_ratio:g} of them"
            )
        else:
            groups.append(group)
            scores[group.root], widths[group.root] = score, allowed
    for root, reason in left.items():
        logger.info("prune: %s stays whole: %s", root, reason)
    blocks = [] if options.chosen_method != "search" or not options.blocks else find_blocks(model)
    free = [name for name in blocks if not any(fnmatchcase(name, pattern) for pattern in options.keep)]
    return Candidates(model, groups, scores, widths, free, multiple, left)


def _place(edit: Edit) -> str:
    return edit.tensor if isinstance(edit, KeepOfTensor) else edit.layer


def _inside(name: str, modules: Sequence[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)
