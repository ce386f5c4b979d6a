"""Which weights stay when a network is made sparse: the cubic schedule, and masks by magnitude.

Elementwise and of single tensors; what is masked in which network, and when, is for `passes/sparsity.py` to say.

Source: Zhu and Gupta, To prune, or not to prune, arXiv:1710.01878, eq. 1 and section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

GROUP, GROUP_KEEPS = 4, 2  # 2:4 sparsity: of four weights in a row, two may be other than zero


@dataclass(frozen=True)
class CubicSchedule:
    """s(t) = final + (initial - final) * (1 - p)^3, p = (t - begin) / (updates * every), held in [0, 1].

    Attributes:
        initial: share of zeros at `begin`; 0 before it.
        final: share of zeros from the last update on.
        begin: optimiser step of the first update, counted from 0.
        updates: how often the mask is tightened after the first update; 0: it is final at once.
        every: steps between two updates.
    """

    initial: float
    final: float
    begin: int
    updates: int
    every: int

    @property
    def end(self) -> int:
        """Step of the last update."""
        return self.begin + self.updates * self.every

    def at(self, step: int) -> float:
        """The share of zeros that holds at `step`."""
        if step < self.begin:
            return 0.0
        if step >= self.end:
            return self.final
        left = 1 - (step - self.begin) / (self.updates * self.every)
        return self.final + (self.initial - self.final) * left**3

    def updates_at(self, step: int) -> bool:
        """Whether the mask is computed anew before `step`."""
        return self.begin <= step <= self.end and (step - self.begin) % max(self.every, 1) == 0


def kept_count(count: int, sparsity: float) -> int:
    """How many of `count` stay at a share of zeros; at least one."""
    return max(round(count * (1 - sparsity)), 1)


def block_scores(weight: Tensor, mask: Tensor, block: tuple[int, int]) -> Tensor:
    """Mean magnitude of every block of a weight seen as a matrix, in one row; -1 where a block is masked already.

    So what was zeroed once never outranks a weight that only happens to be zero, and masks shrink alone.

    Args:
        weight: (rows, ...); all axes but the first are one.
        mask: shaped like `weight`; whole blocks of it are False.
        block: rows and columns of a block; those at the edges hold what is left.
    """
    magnitude = weight.detach().abs().flatten(1)
    if block == (1, 1):
        return torch.where(mask.flatten(1), magnitude, -1.0).flatten()
    sums, counts = (_pooled(values, block) for values in (magnitude, torch.ones_like(magnitude)))
    alive = _pooled(mask.flatten(1).to(magnitude.dtype), block) > 0
    return torch.where(alive, sums / counts, -1.0).flatten()


def _pooled(matrix: Tensor, block: tuple[int, int]) -> Tensor:
    """Sums over blocks, (ceil(rows / block rows), ceil(columns / block columns))."""
    rows, columns = (-size % part for size, part in zip(matrix.shape, block, strict=True))
    padded = F.pad(matrix, (0, columns, 0, rows))
    grid = padded.shape[0] // block[0], padded.shape[1] // block[1]
    return padded.reshape(grid[0], block[0], grid[1], block[1]).sum((1, 3))


def expand_blocks(kept: Tensor, shape: torch.Size, block: tuple[int, int]) -> Tensor:
    """The mask shaped like a weight, of one boolean for each block as `block_scores` orders them."""
    if block == (1, 1):
        return kept.reshape(shape)
    rows, columns = shape[0], math.prod(shape[1:])
    grid = kept.reshape(-(-rows // block[0]), -(-columns // block[1]))
    whole = grid.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)
    return whole[:rows, :columns].reshape(shape)


def largest(scores: Tensor, keep: int) -> Tensor:
    """True at exactly `keep` scores, the largest; of equal ones those with the lower index."""
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept[scores.argsort(descending=True, stable=True)[:keep]] = True
    return kept


def largest_of_all(scores: Mapping[str, Tensor], keep: int, floor: float) -> dict[str, Tensor]:
    """True at the `keep` largest scores of all layers together, of which each layer has a share `floor` at least.

    Each layer's own largest fill its floor first, at least one; the rest goes by rank. Where the floors alone are
    more than `keep`, they are what stays.

    Args:
        scores: of layers, each in one row.
        keep: over all layers.
        floor: least share of a layer's scores that stays.
    """
    kept = {name: largest(row, max(math.ceil(len(row) * floor), 1)) for name, row in scores.items()}
    left = keep - sum(int(mask.sum()) for mask in kept.values())
    if left > 0:
        rest = torch.cat([torch.where(kept[name], -math.inf, row) for name, row in scores.items()])
        chosen = torch.split(largest(rest, left), [len(row) for row in scores.values()])
        for (name, mask), more in zip(kept.items(), chosen, strict=True):
            kept[name] = mask | more
    return kept


def two_of_four(weight: Tensor) -> Tensor:
    """The mask that keeps the two largest magnitudes of every four inputs of an output, shaped like the weight.

    Args:
        weight: (C_out, C_in, ...), C_in a multiple of 4. A group are four inputs in a row at one place of the kernel.

    Source: NVIDIA's sparse tensor cores; TensorRT groups along C of KCRS, for each k, r and s.
    """
    groups = _groups(weight.detach().abs())  # (K, R, S, C / 4, 4)
    order = groups.argsort(dim=-1, descending=True, stable=True)[..., :GROUP_KEEPS]
    kept = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, order, True)
    return kept.flatten(-2).movedim(-1, 1)


def is_two_of_four(weight: Tensor) -> bool:
    """Whether no four inputs in a row of a weight (C_out, C_in, ...) hold more than two numbers other than zero."""
    if weight.shape[1] % GROUP:
        return False
    return bool((_groups(weight != 0).sum(-1) <= GROUP_KEEPS).all())


def _groups(weight: Tensor) -> Tensor:
    last = weight.movedim(1, -1)
    return last.reshape(*last.shape[:-1], -1, GROUP)


def bitmask_bytes(count: int, nonzero: int, value_bytes: int) -> int:
    """Bytes of a sparse tensor stored as one bit for each weight, and the values that are not zero."""
    return -(-count // 8) + nonzero * value_bytes
