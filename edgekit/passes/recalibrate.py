"""Re-estimating batch-norm statistics after the weights before the norms have changed."""

from __future__ import annotations

import torch
from torch import nn

from edgekit.data.samples import Samples
from edgekit.errors import PassError

_BATCH = 64


def recalibrate_norms(network: nn.Module, samples: Samples) -> int:
    """Set running statistics in place to the mean over batches of `samples`; the number of norms.

    Everything but the norms stays in eval mode, so dropout is off. All norms are re-estimated in one run, each seeing
    what the norms before it make of the same batch. Batches are of nearly equal size, so each weighs the same.

    Raises:
        PassError: there are fewer than two samples.
    """
    norms = [
        layer
        for layer in network.modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None
    ]
    if not norms:
        return 0
    if len(samples) < 2:
        raise PassError(
            what=f"{len(samples)} calibration samples, and batch norms need two",
            where="option recalibrate_norms",
            fix="use a larger calibration split, or set recalibrate_norms to false",
        )
    network.eval()
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative average
            norm.train()
        with torch.no_grad():
            parts = -(-len(samples) // _BATCH)
            for batch in zip(*(inputs.tensor_split(parts) for inputs in samples.inputs), strict=True):
                network(*batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
    return len(norms)
