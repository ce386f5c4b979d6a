"""What the weight of a layer meets of its input: the product of the two is all that the layer computes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from edgekit.nets.graph import CONVOLUTIONS

LARGEST_BYTES = 2**26  # of rows at once: a kernel's taps repeat its input as many times


def rows_of(node: fx.Node, shape: torch.Size, values: Tensor) -> Tensor:
    """Inputs as a weight meets them, (groups, K, places): each tap of a kernel is an input of its own.

    With a weight of (groups, outputs of a group, K) the product is the layer's output without its bias, as
    `outputs_as_rows` has it. Samples lie one behind the other.

    Args:
        shape: of the weight.
        values: the layer's input.
    """
    if node.target not in CONVOLUTIONS:
        return values.reshape(-1, values.shape[-1]).T[None]
    taps = list(shape[2:])
    stride, padding, dilation = (
        [given] * len(taps) if isinstance(given, int) else [*given] * (len(taps) // len(given))
        for given in _arguments(node)[3:6]
    )
    if values.dim() == 3:  # a row of an image of height 1
        values, taps = values[:, :, None], [1, *taps]
        stride, padding, dilation = [1, *stride], [0, *padding], [1, *dilation]
    patches = F.unfold(values, tuple(taps), tuple(dilation), tuple(padding), tuple(stride))  # (N, C_in * taps, places)
    groups = groups_of(node)
    return patches.movedim(1, 0).reshape(groups, patches.shape[1] // groups, -1)


def outputs_as_rows(node: fx.Node, values: Tensor) -> Tensor:
    """A layer's output, (groups, outputs of a group, places)."""
    if node.target not in CONVOLUTIONS:
        return values.reshape(-1, values.shape[-1]).T[None]
    channels = values.movedim(1, 0).flatten(1)
    return channels.reshape(groups_of(node), -1, channels.shape[1])


def means_as_rows(mean: Tensor, groups: int, inputs: int) -> Tensor:
    """Mean of every input channel, (C_in,), for every row of `rows_of`: (groups, K, 1)."""
    return mean.repeat_interleave(groups * inputs // len(mean)).reshape(groups, inputs, 1)


def in_slices(node: fx.Node, shape: torch.Size, *values: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """A layer's input, and what else has samples along axis 0, in slices whose rows take little memory."""
    if node.target not in CONVOLUTIONS:
        yield values
        return
    one = values[0][:1].numel() * shape[2:].numel() * 4
    size = max(1, LARGEST_BYTES // one)
    for start in range(0, len(values[0]), size):
        yield tuple(value[start : start + size] for value in values)


def groups_of(node: fx.Node) -> int:
    """Groups of a convolution; 1 of a linear layer."""
    return int(_arguments(node)[6]) if node.target in CONVOLUTIONS else 1


def _arguments(node: fx.Node) -> list[Any]:
    """All seven arguments of a convolution."""
    return [*node.args, *[None, 1, 0, 1, 1][len(node.args) - 2 :]]
