"""Observers: from batches to what every activation of a program was seen to be, in bounded memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from edgekit.nets.graph import CONVOLUTIONS, LINEAR
from edgekit.nets.program import Program

BINS_PER_SIDE = 2048
_PIECE = 1 << 18  # values


class Histogram:
    """Counts of values in equal bins on both sides of zero, whose width doubles when a value lies outside.

    Memory does not grow with the number of samples, and their shapes may differ. `low` and `high` are exact.
    """

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self.width = 0.0
        self.counts: NDArray[np.int64] = np.zeros(2 * BINS_PER_SIDE, np.int64)

    def add(self, values: Tensor) -> None:
        """Count every element. A value that is not finite makes `low` or `high` not finite, and is not counted."""
        low, high = (end.item() for end in torch.aminmax(values.detach().float()))
        # numpy's minimum keeps a NaN, Python's min may drop it
        self.low, self.high = float(np.minimum(self.low, low)), float(np.maximum(self.high, high))
        reach = max(-self.low, self.high)
        if not np.isfinite(reach) or reach == 0.0:
            return
        if self.width == 0.0:
            self.width = reach / BINS_PER_SIDE
        while reach > self.width * BINS_PER_SIDE:
            self._double()
        # counting whole numbers takes a third of the time of torch.histc, and less in pieces that stay in the cache
        middle = torch.tensor(float(BINS_PER_SIDE))
        for piece in torch.split(values.detach().float().flatten(), _PIECE):
            bins = torch.add(middle, piece, alpha=1.0 / self.width).to(torch.int32)
            counts = torch.bincount(bins, minlength=2 * BINS_PER_SIDE).numpy()
            self.counts += counts[: 2 * BINS_PER_SIDE]
            self.counts[-1] += counts[2 * BINS_PER_SIDE :].sum()  # the largest value lies on the end of the last bin

    @property
    def centres(self) -> NDArray[np.float64]:
        """The value in the middle of each bin."""
        return np.asarray((np.arange(-BINS_PER_SIDE, BINS_PER_SIDE) + 0.5) * self.width, np.float64)

    def _double(self) -> None:
        pairs = self.counts.reshape(-1, 2).sum(1)  # (BINS_PER_SIDE,), centred on zero as before
        self.counts = np.zeros_like(self.counts)
        start = BINS_PER_SIDE // 2
        self.counts[start : start + BINS_PER_SIDE] = pairs
        self.width *= 2


class ChannelMean:
    """Mean of every channel, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: Tensor | None = None

    def add(self, values: Tensor, axis: int) -> None:
        """Add a batch with its channels along `axis`."""
        rows = values.detach().movedim(axis, min(1, values.dim() - 1))  # (N, C, ...), or (C,)
        # a sample's places in float32, whose sums torch forms by halves, then the samples in float64
        sums = rows.flatten(2).sum(-1).double().sum(0) if rows.dim() > 2 else rows.double()
        sums = sums.sum(0) if sums.dim() > 1 else sums
        self._sums = sums if self._sums is None else self._sums + sums
        self.count += values.numel() // values.shape[axis]

    @property
    def mean(self) -> Tensor:
        """(C,) float32."""
        assert self._sums is not None
        return (self._sums / self.count).float()


@dataclass
class Seen:
    """What was seen of a program so far.

    Attributes:
        histograms: of activations, by their names.
        means: of the input channels of every convolution and linear layer, by the activation name of the layer.
    """

    histograms: dict[str, Histogram] = field(default_factory=dict)
    means: dict[str, ChannelMean] = field(default_factory=dict)


class _Recorder(fx.Interpreter):
    def __init__(self, program: Program, seen: Seen, counted: Collection[str]) -> None:
        super().__init__(program.module)
        self._names, self._seen = {node.name: name for node, name in program.names.items()}, seen
        self._counted = frozenset(counted)

    def run_node(self, n: fx.Node) -> Any:
        name = self._names.get(n.name)
        if name is not None and n.target in CONVOLUTIONS | LINEAR:
            values = self.env[n.all_input_nodes[0]]
            self._seen.means.setdefault(name, ChannelMean()).add(values, -1 if n.target in LINEAR else 1)
        value = super().run_node(n)
        if name in self._counted and isinstance(value, Tensor) and value.is_floating_point():
            self._seen.histograms.setdefault(name, Histogram()).add(value)
        return value


def observe(
    program: Program, batches: Iterable[tuple[Tensor, ...]], seen: Seen, counted: Collection[str] | None = None
) -> None:
    """Add what a program computes for all batches to `seen`.

    Args:
        counted: names of the activations that get a histogram; none: all of them.
    """
    recorder = _Recorder(program, seen, [*program.names.values()] if counted is None else counted)
    with torch.no_grad():
        for batch in batches:
            recorder.run(*batch)
