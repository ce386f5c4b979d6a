"""Observers: from batches to what every activation of a program was seen to be, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

BINS_PER_SIDE = 2048


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
        span = self.width * BINS_PER_SIDE
        counts = torch.histc(values.detach().float(), 2 * BINS_PER_SIDE, -span, span)
        self.counts += counts.numpy().astype(np.int64)

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


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, names: Mapping[str, str], seen: dict[str, Histogram]) -> None:
        super().__init__(module)
        self._names, self._seen = names, seen

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        name = self._names.get(n.name)
        if name is not None and isinstance(value, Tensor) and value.is_floating_point():
            self._seen.setdefault(name, Histogram()).add(value)
        return value


def observe(
    module: fx.GraphModule, names: Mapping[str, str], batches: Iterable[tuple[Tensor, ...]], seen: dict[str, Histogram]
) -> None:
    """Add every float activation of a program, over all batches, to its histogram in `seen`.

    Args:
        names: node name -> activation name; other nodes are not watched.
    """
    recorder = _Recorder(module, names, seen)
    with torch.no_grad():
        for batch in batches:
            recorder.run(*batch)
