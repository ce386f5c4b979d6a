"""Training on the training split."""

from __future__ import annotations

import copy

from edgekit.nets.model import Model
from edgekit.nets.steps import on_samples
from edgekit.passes.context import Context
from edgekit.passes.loop import fit
from edgekit.passes.losses import find_loss
from edgekit.passes.prune.group_norm import GroupPenalty, penalised
from edgekit.schema.train import TrainOptions


def train(model: Model, options: TrainOptions, context: Context) -> Model:
    """The model after `options.epochs` of descending its loss; with `ema_decay`, the moving average of its weights.

    Raises:
        PassError: there is no training split or nothing to train, or the loss is not finite, or does
            not fit the outputs or the labels.

    Source: label smoothing, Szegedy et al., arXiv:1512.00567, section 7; schedule, see `learning_rate_factor`.
    """
    loss = find_loss(options.loss, "step train", options.label_smoothing)
    network = copy.deepcopy(model.network)
    if options.group_sparsity is not None:
        loss = penalised(loss, GroupPenalty.of(model, network, options.group_sparsity, "train"))
    fit(on_samples(model, network), options, loss, context, "train")
    return model.with_(network, "train")
