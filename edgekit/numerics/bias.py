"""Bias correction: what rounding a weight shifts on average is taken back by the bias."""

from __future__ import annotations

from torch import Tensor


def rounding_shift(error: Tensor, mean: Tensor) -> Tensor:
    """Mean shift of a layer's outputs by an error in its weight: sum over inputs of error * E[x].

    Exact but at zero-padded borders, where fewer taps of the kernel meet an input.

    Args:
        error: rounded weight - weight, (C_out, C_in / groups, ...) of a convolution or (C_out, C_in) of a linear layer.
        mean: E[x] of every input channel, (C_in,).

    Returns:
        (C_out,), to be subtracted from the bias.

    Source: Nagel et al., Data-Free Quantization, arXiv:1906.04721, section 4.2, with E[x] measured on calibration
    samples instead of derived from a batch norm.
    """
    per_input = error.flatten(2).sum(2) if error.dim() > 2 else error  # (C_out, C_in / groups)
    outputs, inputs = per_input.shape
    groups = mean.numel() // inputs
    of_group = mean.reshape(groups, inputs).repeat_interleave(outputs // groups, 0)  # (C_out, C_in / groups)
    return (per_input * of_group).sum(1)
