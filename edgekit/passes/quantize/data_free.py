"""Calibration without data: inputs made so that every batch norm sees the statistics that it was trained with."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.passes.settings import reproducible

SAMPLES = 64
STEPS = 150
_RATE = 0.5  # of Adam, in units of the first noise; it falls to 0 along a cosine
_POWERS = range(-6, 11)  # of two: standard deviations of noise that are tried first


def synthetic_samples(model: Model, count: int, context: Context) -> Samples:
    """`count` inputs whose activations have the mean and variance that the batch norms of `model` remember.

    The network has one input of floats. Samples start as normal noise of the standard deviation, a power of two, that
    fits best: how inputs are preprocessed is not known here. Then Adam lowers the sum over batch norms of the squared
    error of means and standard deviations, in parts of the layer's mean variance: channels with a wide range count
    most, as in the range of the whole tensor. The same seed gives the same samples on the same machine with the same
    number of threads. Labels are 0 and say nothing.

    Raises:
        PassError: the network has no batch norm with statistics, or not one input of floats.

    Source: Cai et al., ZeroQ, arXiv:2001.00281, eq. 3; there without the division, and with inputs of unit variance.
    """
    network = copy.deepcopy(model.network).eval().requires_grad_(False)
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not norms:
        raise PassError(
            "the network has no batch norm that remembers its inputs' statistics",
            "step quantize, calibration: data-free",
            "give calibration samples; or quantise before batch norms are folded",
        )
    if len(model.inputs) != 1 or model.inputs[0].dtype != "float32":
        raise PassError(
            f"the network takes {', '.join(f'{spec.name} ({spec.dtype})' for spec in model.inputs)}",
            "step quantize, calibration: data-free",
            "give calibration samples: only one input of floats can be made",
        )
    errors: list[Tensor] = []
    for norm in norms:
        norm.register_forward_pre_hook(lambda module, given: errors.append(_error(module, given[0])))

    def loss(inputs: Tensor) -> Tensor:
        errors.clear()
        network(inputs)
        return torch.stack(errors).sum()

    with reproducible(context.seed, torch.device("cpu")):
        noise = torch.randn(count, *model.inputs[0].shape[1:])
        with torch.no_grad():
            scale = 2.0 ** min(_POWERS, key=lambda power: float(loss(noise * 2.0**power)))
        units = noise.clone().requires_grad_()
        optimizer = torch.optim.Adam([units], lr=_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for step in range(STEPS):
            optimizer.zero_grad()
            loss(units * scale).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            context.progress(step + 1, STEPS, "making samples")
    return Samples(((units * scale).detach(),), torch.zeros(count, dtype=torch.int64))


def _error(norm: nn.Module, values: Tensor) -> Tensor:
    """Of the channels' means and standard deviations, in parts of the layer's mean variance."""
    assert isinstance(norm.running_mean, Tensor)
    assert isinstance(norm.running_var, Tensor)
    others = [axis for axis in range(values.dim()) if axis != 1]
    variance = values.var(others, unbiased=False)
    smallest = torch.finfo(values.dtype).tiny  # the root of 0 has no gradient
    spread = (variance + smallest).sqrt() - norm.running_var.sqrt()
    return ((values.mean(others) - norm.running_mean) ** 2 + spread**2).mean() / norm.running_var.mean()
