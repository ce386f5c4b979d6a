"""What a training left of a network's weights: zeros, and bytes before and after compression."""

from __future__ import annotations

import logging
import zlib

import torch
from torch import Tensor, nn

from edgekit.nets.count import count_params
from edgekit.numerics.sparsity import CubicSchedule, bitmask_bytes
from edgekit.passes.sparsity.layers import Prunable, inner
from edgekit.schema.sparsity import SparseLayer, SparsityOptions, SparsityRow

logger = logging.getLogger(__name__)

_LEVEL = 6  # of zlib, and of the common .zip


def describe(
    network: nn.Module,
    found: Prunable,
    options: SparsityOptions,
    schedule: CubicSchedule,
    steps: int,
) -> SparsityRow:
    """The row of a step. Zeros are counted in the weights as they are, bytes over every stored tensor, each once."""
    layers = tuple(
        SparseLayer(weight=name, zeros=int((weight == 0).sum()), weights=weight.numel())
        for name, weight in found.weights.items()
    )
    tensors = _stored(network)
    sparse = {id(weight) for weight in found.weights.values()}
    row = SparsityRow(
        method=options.method,
        pattern=options.pattern,
        scope=options.scope,
        steps=steps,
        begin=schedule.begin,
        every=schedule.every,
        updates=schedule.updates,
        recovery_steps=steps - schedule.end,
        zeros=sum(layer.zeros for layer in layers),
        prunable_weights=sum(layer.weights for layer in layers),
        all_weights=count_params(inner(network)),
        layers=layers,
        left_dense=found.dense,
        size_bytes=sum(tensor.nbytes for tensor in tensors),
        deflated_bytes=len(zlib.compress(b"".join(map(_bytes, tensors)), _LEVEL)),
        bitmask_bytes=sum(_as_bitmask(tensor) if id(tensor) in sparse else tensor.nbytes for tensor in tensors),
    )
    logger.info(
        "sparsity: %d of %d prunable weights are zero, of %d in all; last update at step %d of %d",
        row.zeros,
        row.prunable_weights,
        row.all_weights,
        schedule.end,
        steps,
    )
    return row


def _stored(network: nn.Module) -> list[Tensor]:
    found = {id(tensor): tensor for tensor in network.state_dict(keep_vars=True).values()}
    return list(found.values())


def _as_bitmask(tensor: Tensor) -> int:
    return bitmask_bytes(tensor.numel(), int((tensor != 0).sum()), tensor.element_size())


def _bytes(tensor: Tensor) -> bytes:
    content: bytes = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return content
