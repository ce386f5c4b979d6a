"""Observers: from batches to the range of every activation of a program."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx


class RangeRecorder(fx.Interpreter):
    """Runs a program and keeps the smallest and largest value of every float activation seen so far."""

    def __init__(self, module: fx.GraphModule, names: dict[str, str]) -> None:
        """`names`: node name -> activation name; other nodes are not watched."""
        super().__init__(module)
        self.watched = names
        self.ranges: dict[str, tuple[float, float]] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and record its output."""
        value = super().run_node(n)
        name = self.watched.get(n.name)
        if name is not None and isinstance(value, Tensor) and value.is_floating_point():
            low, high = self.ranges.get(name, (0.0, 0.0))
            seen_low, seen_high = torch.aminmax(value)
            # numpy's minimum keeps a NaN, Python's min may drop it
            self.ranges[name] = (float(np.minimum(low, seen_low.item())), float(np.maximum(high, seen_high.item())))
        return value


def observe_ranges(
    module: fx.GraphModule, names: dict[str, str], batches: Iterable[tuple[Tensor, ...]]
) -> dict[str, tuple[float, float]]:
    """Smallest and largest value, extended to hold 0, of every activation in `names` over all batches."""
    recorder = RangeRecorder(module, names)
    with torch.no_grad():
        for batch in batches:
            recorder.run(*batch)
    return recorder.ranges
