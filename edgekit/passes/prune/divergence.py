"""What a cut does to a network's answers before any training: the search's measure of damage. It needs no labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.data.samples import Samples, in_batches
from edgekit.nets.model import Model
from edgekit.nets.outputs import tensors_of
from edgekit.nets.steps import on_samples

_BATCH = 64


class Divergence:
    """From the whole network's outputs to a cut one's, the mean over samples; >= 0.

    Class logits: KL divergence of the softened probabilities. Numbers, and networks with several outputs: mean squared
    difference over the variance of the whole network's output, summed over outputs.

    With `recalibrate`, batch norms of the cut network use the statistics of each batch, as they would be estimated
    anew: a cut that only shifts them is no damage.
    """

    def __init__(self, model: Model, samples: Samples, loss: str, *, recalibrate: bool) -> None:
        self._model, self._recalibrate = model, recalibrate
        self._batches = list(in_batches(samples.inputs, _BATCH))
        self._terms: Callable[[Tensor, Tensor], Tensor] = _kl if loss == "cross_entropy" else _relative_error
        with torch.no_grad():
            whole = on_samples(model, model.network.eval())
            self._expected = [tensors_of(whole(*batch)) for batch in self._batches]

    def __call__(self, network: nn.Module) -> float:
        """Of `network`, the model's own after a cut; it is left in eval mode."""
        run = on_samples(self._model, network)
        norms = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        network.eval()
        try:
            if self._recalibrate:
                for norm in norms:
                    norm.momentum = 0.0  # use a batch's statistics, and keep none
                    norm.train()
            with torch.no_grad():
                pairs = zip(self._batches, self._expected, strict=True)
                parts = [self._of_batch(tensors_of(run(*batch)), expected) * len(batch[0]) for batch, expected in pairs]
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
            network.eval()
        return max(0.0, float(sum(parts))) / sum(len(batch[0]) for batch in self._batches)  # rounding falls below zero

    def _of_batch(self, made: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
        term = self._terms if len(expected) == 1 else _relative_error
        return float(sum(term(own.float(), whole.float()) for own, whole in zip(made, expected, strict=True)))


def _kl(made: Tensor, expected: Tensor) -> Tensor:
    """KL(expected || made) of logits, classes on the last axis; a mean over all before it."""
    own, whole = (tensor.log_softmax(-1).flatten(0, -2) for tensor in (made, expected))
    return F.kl_div(own, whole, reduction="batchmean", log_target=True)


def _relative_error(made: Tensor, expected: Tensor) -> Tensor:
    spread = expected.var() if expected.numel() > 1 else expected.square().sum()
    return (made - expected).square().mean() / spread.clamp_min(torch.finfo(torch.float32).tiny)
