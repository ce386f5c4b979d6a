"""Structured pruning: whole channels go, and the layers become smaller dense layers."""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgekit.errors import PassError
from edgekit.nets.count import count_macs
from edgekit.nets.edits import apply_edits
from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.passes.prune.autobot.autobot import autobot
from edgekit.passes.prune.autobot.flops import GatedMacs
from edgekit.passes.prune.autobot.gates import why_not_gated
from edgekit.passes.prune.cut import keep_edits
from edgekit.passes.prune.group import ChannelGroup
from edgekit.passes.prune.groups import find_groups
from edgekit.passes.prune.heads import open_attention
from edgekit.passes.prune.importance import saliency, score_channels
from edgekit.passes.prune.widths import Choice, MacsModel, Removed, group_widths
from edgekit.passes.recalibrate import recalibrate_norms
from edgekit.schema.prune import PruneOptions

logger = logging.getLogger(__name__)


def prune(model: Model, options: PruneOptions, context: Context) -> Model:
    """The model with fewer channels. Every new width is a multiple of `multiple_of`, or else the target's.

    `budget` cuts, over all layers or with one ratio for each (`global_ranking`), until at most this share of
    multiply-accumulates is left; `channel_ratio` cuts each group of channels by itself. Groups that cannot be cut, and
    those that no allowed width is below, stay whole and are logged with the reason. With `method: autobot`, what goes
    is what trained gates close to meet the budget.

    Raises:
        PassError: the bound cannot be met, nothing can be cut, or the pruned network does not run.

    Source: groups, Fang et al., arXiv:2301.12900; scores, see `importance.py`; gates, see `autobot/`.
    """
    given, model = model, open_attention(model)
    multiple = options.multiple_of or int(context.target.channel_multiple.value)
    choice = _choice(model, options, context, multiple)
    removed = _choose(model, options, choice, context)
    edits = keep_edits(model, choice.groups, removed)
    if not edits:
        raise PassError(
            what=f"no layer can lose channels with widths that are multiples of {multiple}",
            where="step prune",
            fix="lower multiple_of or min_keep_ratio, raise channel_ratio, or drop the step",
        )
    network = apply_edits(model.network, edits)
    pruned = model.with_(network, "prune", edits)
    _check_outputs(given, pruned)
    if options.recalibrate_norms:
        recalibrate_norms(network, context.splits.calibration)
    for group in choice.groups:
        logger.info("prune: %s %d -> %d channels", group.root, group.width, group.width - len(removed[group.root]))
    logger.info("prune: %d of %d multiply-accumulates left", count_macs(pruned), count_macs(model))
    return pruned


def _choice(model: Model, options: PruneOptions, context: Context, multiple: int) -> Choice:
    found = find_groups(model, options.keep)
    left = dict(found.left)
    gated = options.method == "autobot"
    calibration = context.splits.calibration
    saliencies = {} if gated else saliency(model.network, options.importance, calibration, options.loss)
    groups: list[ChannelGroup] = []
    scores: dict[str, Tensor] = {}
    widths: dict[str, list[int]] = {}
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
    return Choice(groups, scores, widths)


def _choose(model: Model, options: PruneOptions, choice: Choice, context: Context) -> Removed:
    if options.channel_ratio is not None:
        return choice.remove_ratio(options.channel_ratio)
    assert options.budget is not None
    if options.budget.name != "macs_ratio":
        raise NotImplementedError
    macs = MacsModel.of(model)
    whole = macs.total(choice.groups, {})
    bound = int(options.budget.limit * whole)
    if not choice.groups:
        removed: Removed = {}
    elif options.method == "autobot":
        cost = GatedMacs.of(model, choice.groups)
        removed = autobot(model, choice.groups, choice.widths, cost, bound, options, context)
    else:
        search = choice.remove_globally if options.global_ranking else choice.remove_evenly
        removed = search(lambda trial: macs.total(choice.groups, trial), bound)
    least = macs.total(choice.groups, removed)
    if least > bound:
        raise PassError(
            what=f"a budget of {options.budget.limit:g} cannot be reached: {least / whole:.3f} of the MACs stay",
            where="step prune",
            fix="raise macs_ratio or lower min_keep_ratio or multiple_of; the log names what stays whole",
        )
    return removed


def _check_outputs(model: Model, pruned: Model) -> None:
    """Shapes written into a network's code are found by running it."""
    for batch in (1, 2):
        inputs = model.example(batch)
        try:
            with torch.no_grad():
                before, after = (pytree.tree_leaves(m.network(*inputs)) for m in (model, pruned))
        except Exception as err:  # the network is the user's code
            raise PassError(
                what=f"the pruned network does not run at batch {batch}: {err}",
                where="step prune",
                fix="write shapes in forward() as -1 or from tensors, or name the layers before them in keep",
            ) from err
        if [tensor.shape for tensor in before] != [tensor.shape for tensor in after]:
            raise PassError(
                what=f"outputs became {[tuple(t.shape) for t in after]}, from {[tuple(t.shape) for t in before]}",
                where="step prune",
                fix="name the layers that make the outputs in keep",
            )
