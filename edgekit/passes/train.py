"""Supervised training on the training split's labels."""

from __future__ import annotations

import copy

from torch import Tensor
from torch.nn import functional as F

from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.passes.loop import fit
from edgekit.schema.passes import TrainOptions


def train(model: Model, options: TrainOptions, context: Context) -> Model:
    """The model after `options.epochs` of cross-entropy; with `ema_decay`, the moving average of its weights.

    Raises:
        PassError: there is no training split or nothing to train, or the loss is not finite.

    Source: label smoothing, Szegedy et al., arXiv:1512.00567, section 7; schedule, see `learning_rate_factor`.
    """

    def loss(outputs: Tensor, _inputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs, labels, label_smoothing=options.label_smoothing)

    network = copy.deepcopy(model.network)
    fit(network, options, loss, context, "train")
    return model.with_(network, "train")
