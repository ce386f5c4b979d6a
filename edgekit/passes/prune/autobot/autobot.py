"""Method autobot: gates on channels are trained to a budget with the weights fixed, and closed channels go."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor

from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.nets.steps import on_samples
from edgekit.passes.context import Context
from edgekit.passes.losses import find_loss
from edgekit.passes.prune.autobot.counts import Cost
from edgekit.passes.prune.autobot.flops import GatedMacs
from edgekit.passes.prune.autobot.gates import Gates
from edgekit.passes.prune.autobot.latency import GatedLatency
from edgekit.passes.prune.autobot.rounds import each_alone, in_blocks
from edgekit.passes.prune.autobot.tensors import GatedTensors
from edgekit.passes.prune.autobot.threshold import choose_channels
from edgekit.passes.prune.autobot.training import Aim, train_gates
from edgekit.passes.prune.candidates import Candidates, Cuts
from edgekit.passes.prune.cost import bound_of, exact_cost
from edgekit.passes.prune.latency import LatencyTable, timed_layers
from edgekit.passes.prune.ranking import out_of_reach
from edgekit.schema.prune import AutobotOptions, PruneBudget, PruneOptions

logger = logging.getLogger(__name__)

_WITHIN_A_BLOCK = 1e-3  # of a channel's own gate: it orders the channels of one block, and no blocks
_CLOSER = 0.97  # what the target is lowered by besides, where the whole network was measured above the bound


def by_gates(model: Model, options: PruneOptions, context: Context, candidates: Candidates) -> Cuts:
    """The cuts of trained gates, within a budget of any quantity.

    Where widths are multiples, a second round trains one gate for each block of channels that go together. The
    survivors are cut out as they are: their gates, near one, are not multiplied into them. Of latency, a table of
    layers says what gates cost, and the whole network when to stop: while it is measured above the budget, the same
    gates are cut deeper.

    Raises:
        PassError: there is no training split, the loss does not fit or is not finite, the budget cannot be met, or it
            is of latency and nothing measures.

    Source: Castells and Yeom, AutoBot, arXiv:2111.09635, and its code; latency and blocks are ours.
    """
    assert options.budget is not None
    if not candidates.groups:
        return Cuts({})
    samples = _samples(options.autobot or AutobotOptions(), context)
    exact = exact_cost(options.budget, context)
    whole = exact(model)
    bound = bound_of(options.budget, whole)
    cost = _gated_cost(options.budget, model, candidates, context)
    gated_whole = float(cost.total({}))
    target = bound * gated_whole / whole
    logits = _train(model, candidates, cost, target, samples, options, context)
    while True:
        removed = choose_channels(logits, candidates.widths, cost, target)
        reached = exact(candidates.cut(Cuts(removed)))
        if reached <= bound:
            return Cuts(removed)
        gated = float(cost.total({group.root: group.width - len(removed[group.root]) for group in candidates.groups}))
        if gated > target:
            raise out_of_reach(options.budget, reached, whole)
        logger.info("prune: %.3f ms measured, and the budget is %.3f ms: going on", reached, bound)
        target = min(target, gated) * bound / reached * _CLOSER


def _gated_cost(budget: PruneBudget, model: Model, candidates: Candidates, context: Context) -> Cost:
    groups = candidates.groups
    if budget.measured:
        layer_ms = LatencyTable(context.measure).layer_ms
        layers = timed_layers(model)
        return GatedLatency.measured(model.network, layers, groups, candidates.widths, layer_ms, context.progress)
    if budget.name == "params_ratio":
        return GatedTensors.parameters(model.network, groups)
    if budget.name == "size_ratio":
        return GatedTensors.stored_bytes(model.network, groups)
    return GatedMacs.of(model, groups)


def _train(
    model: Model,
    candidates: Candidates,
    cost: Cost,
    target: float,
    samples: Samples,
    options: PruneOptions,
    context: Context,
) -> Mapping[str, Tensor]:
    """Logits (width,) of each group after both rounds, or after the first where every channel can go alone."""
    own = options.autobot or AutobotOptions()
    network = copy.deepcopy(model.network)
    run = on_samples(model, network)
    gates = Gates(network, candidates.groups)
    whole = float(cost.total({}))
    aim = Aim(find_loss(options.loss, "step prune, method autobot", own.label_smoothing), cost, target, whole)
    logits = train_gates(run, gates, each_alone(gates, own.steps), aim, samples, own, context)
    together = any(most - least > 1 for ws in candidates.widths.values() for least, most in pairwise(sorted(ws)))
    if together and own.block_steps:
        blocks = in_blocks(gates, logits, candidates.widths, own.steps, own.block_steps)
        within = logits.sigmoid() * _WITHIN_A_BLOCK
        logits = train_gates(run, gates, blocks, aim, samples, own, context) + within
    vectors = gates.by_group(logits)
    soft = float(cost.total({root: vector.double().sigmoid().sum() for root, vector in vectors.items()}))
    logger.info("prune: gates sum to %.4f of the cost, for a bound of %.4f", soft / whole, target / whole)
    return vectors


def _samples(options: AutobotOptions, context: Context) -> Samples:
    if options.split == "calibration":
        return context.splits.calibration
    if context.splits.train is None:
        raise PassError(
            what="AutoBot trains gates, and there is no training split",
            where="step prune, method autobot",
            fix="name a data set that has training samples, set `autobot: {split: calibration}`, or another method",
        )
    return context.splits.train
