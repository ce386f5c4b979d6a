"""The pass: finds what can be cut, has it chosen by one of three methods, cuts it, and checks the smaller network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import torch
from torch.utils import _pytree as pytree

from edgekit.errors import PassError
from edgekit.nets.count import count_macs
from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.passes.prune.autobot.autobot import by_gates
from edgekit.passes.prune.candidates import Candidates, Cuts, find_candidates
from edgekit.passes.prune.heads import open_attention
from edgekit.passes.prune.ranking import rank
from edgekit.passes.prune.search import search
from edgekit.passes.recalibrate import recalibrate_norms
from edgekit.schema.prune import PruneOptions

logger = logging.getLogger(__name__)

Chooser = Callable[[Model, PruneOptions, Context, Candidates], Cuts]

METHODS: Mapping[str, Chooser] = {"search": search, "ranking": rank, "autobot": by_gates}


def prune(model: Model, options: PruneOptions, context: Context) -> Model:
    """The smaller model. Every new width is a multiple of `multiple_of`, or else the target's.

    What cannot be cut stays whole and is logged with the reason.

    Raises:
        PassError: the budget cannot be met, or is of latency and nothing measures; nothing can be cut; or the pruned
            network does not run.

    Source: groups, Fang et al., arXiv:2301.12900; scores, see `importance.py`; methods, see their files.
    """
    given, model = model, open_attention(model)
    candidates = find_candidates(model, options, context)
    cuts = METHODS[options.chosen_method](model, options, context, candidates)
    if not (any(cuts.removed.values()) or cuts.blocks):
        raise PassError(
            what=f"no layer can lose channels with widths that are multiples of {candidates.multiple}",
            where="step prune",
            fix="lower multiple_of or min_keep_ratio, raise channel_ratio, or drop the step",
        )
    pruned = candidates.cut(cuts)
    _check_outputs(given, pruned)
    if options.recalibrate_norms:
        recalibrate_norms(pruned.network, context.splits.calibration)
    context.record(candidates.row(cuts, options))
    logger.info("prune: %d of %d multiply-accumulates left", count_macs(pruned), count_macs(model))
    return pruned


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
