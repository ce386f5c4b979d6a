"""AutoBot: gates on channels are trained to a budget with the weights fixed, and closed channels go."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor, nn

from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.nets.edits import Edit
from edgekit.nets.model import Model
from edgekit.nets.steps import on_samples
from edgekit.passes.context import Context
from edgekit.passes.losses import find_loss
from edgekit.passes.prune.autobot.counts import Cost
from edgekit.passes.prune.autobot.flops import GatedMacs
from edgekit.passes.prune.autobot.gates import Gates
from edgekit.passes.prune.autobot.rounds import each_alone, in_blocks
from edgekit.passes.prune.autobot.threshold import choose_channels
from edgekit.passes.prune.autobot.training import Aim, train_gates
from edgekit.passes.prune.candidates import Candidates
from edgekit.passes.prune.cost import bound_of
from edgekit.passes.prune.group import ChannelGroup
from edgekit.passes.prune.ranking import out_of_reach
from edgekit.passes.prune.widths import Removed
from edgekit.schema.prune import AutobotOptions, PruneOptions

logger = logging.getLogger(__name__)

_WITHIN_A_BLOCK = 1e-3  # of a channel's own gate: it orders the channels of one block, and no blocks


def by_gates(model: Model, options: PruneOptions, context: Context, candidates: Candidates) -> Sequence[Edit]:
    """The cuts of trained gates.

    Raises:
        PassError: the budget is of another quantity than gates are trained to, or cannot be met; and as `autobot`.
    """
    assert options.budget is not None
    if options.budget.name != "macs_ratio":
        raise PassError(
            f"gates are trained to multiply-accumulates, and the budget is of {options.budget.name}",
            "step prune, method autobot",
            "set a budget of macs_ratio, or `method: search`",
        )
    if not candidates.groups:
        return []
    cost = GatedMacs.of(model, candidates.groups)
    whole = cost.total({})
    bound = int(bound_of(options.budget, whole))
    removed = autobot(model, candidates.groups, candidates.widths, cost, bound, options, context)
    reached = cost.total({group.root: group.width - len(removed[group.root]) for group in candidates.groups})
    if reached > bound:
        raise out_of_reach(options.budget, reached, whole)
    return candidates.edits(removed)


def autobot(
    model: Model,
    groups: Sequence[ChannelGroup],
    widths: Mapping[str, Sequence[int]],
    cost: Cost,
    bound: float,
    options: PruneOptions,
    context: Context,
) -> Removed:
    """What to cut from each group, so that the cost is at most `bound` where the widths allow it.

    Where widths are multiples, a second round trains one gate for each block of channels that go together. The
    survivors are cut out as they are: their gates, near one, are not multiplied into them.

    Args:
        groups: those that `why_not_gated` has nothing against.
        widths: what each group can have, falling.

    Raises:
        PassError: there is no training split, or the loss does not fit or is not finite.

    Source: Castells and Yeom, AutoBot, arXiv:2111.09635, and its code.
    """
    own = options.autobot or AutobotOptions()
    samples = _samples(own, context)
    network = copy.deepcopy(model.network)
    gates = Gates(network, groups)
    loss = find_loss(options.loss, "step prune, method autobot", own.label_smoothing)
    whole = float(cost.total({}))
    aim = Aim(loss, cost, bound, whole)
    logits = _train(on_samples(model, network), gates, widths, aim, samples, own, context)
    soft = cost.total({root: vector.double().sigmoid().sum() for root, vector in logits.items()})
    logger.info("prune: gates sum to %.4f of the cost, for a bound of %.4f", soft / whole, bound / whole)
    return choose_channels(logits, widths, cost, bound)


def _train(
    network: nn.Module,
    gates: Gates,
    widths: Mapping[str, Sequence[int]],
    aim: Aim,
    samples: Samples,
    options: AutobotOptions,
    context: Context,
) -> dict[str, Tensor]:
    """Logits (width,) of each group after both rounds, or after the first where every channel can go alone."""
    alone = each_alone(gates, options.steps)
    logits = train_gates(network, gates, alone, aim, samples, options, context)
    together = any(most - least > 1 for own in widths.values() for least, most in pairwise(sorted(own)))
    if together and options.block_steps:
        blocks = in_blocks(gates, logits, widths, options.steps, options.block_steps)
        within = logits.sigmoid() * _WITHIN_A_BLOCK
        logits = train_gates(network, gates, blocks, aim, samples, options, context) + within
    return gates.by_group(logits)


def _samples(options: AutobotOptions, context: Context) -> Samples:
    if options.split == "calibration":
        return context.splits.calibration
    if context.splits.train is None:
        raise PassError(
            what="AutoBot trains gates, and there is no training split",
            where="step prune, method autobot",
            fix="name a data set that has training samples, set `autobot: {split: calibration}`, or `method: ranking`",
        )
    return context.splits.train
