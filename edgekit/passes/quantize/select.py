"""Which calibration samples the ranges are decided on, chosen by what the network itself makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from edgekit.data.samples import Samples, filled
from edgekit.data.selection import choose_indices, with_range_guard
from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.nets.operators import activations
from edgekit.nets.program import Program, trace
from edgekit.passes.context import Context
from edgekit.passes.quantize.simulate import weighted
from edgekit.schema.calibration import Choose

_BATCH = 32
_BY_FEATURES = frozenset({"k-centre", "dataset-quantization"})


def chosen(model: Model, choose: Choose, pool: Samples, context: Context) -> NDArray[np.int64]:
    """Indices of the samples of `pool` that `choose` asks for, in an order whose every prefix is balanced.

    Raises:
        DataError: the pool has fewer samples.
        PassError: the method looks at features, and the network has no layer with weights.
    """
    looked = choose.method in _BY_FEATURES or choose.range_guard
    features, magnitudes = look(model, pool, context) if looked else (None, None)
    indices = choose_indices(choose, features, pool.labels.numpy())
    if choose.range_guard:
        assert magnitudes is not None
        indices = with_range_guard(indices, magnitudes)
    return indices


def look(model: Model, pool: Samples, context: Context) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features (N, D) and largest magnitude (N, E) of every activation, for all samples of the pool."""
    viewer = _Viewer(trace(model, _BATCH))
    for start in range(0, len(pool), _BATCH):
        batch = pool.batch(start, start + _BATCH)
        count = len(batch[0])  # a program has a fixed batch: the last one is filled with copies
        viewer.view(filled(batch, _BATCH), count)
        context.progress(start + count, len(pool), "looking at samples")
    return np.concatenate(viewer.features), np.concatenate(viewer.magnitudes)


class _Viewer(fx.Interpreter):
    """Keeps a few numbers of each sample: the input of the last layer with weights, averaged over its positions."""

    def __init__(self, program: Program) -> None:
        super().__init__(program.module)
        layers = [*weighted(program).values()]
        if not layers:
            raise PassError(
                "no layer of the network has weights, so its samples have no features",
                "step quantize, choose",
                "choose `random` or `class-balanced`",
            )
        self._source = activations(layers[-1])[0]
        self._channels_last = layers[-1].target is torch.ops.aten.linear.default
        self._names = {node.name for node in program.names}
        self._row: list[Tensor] = []
        self.features: list[NDArray[np.float64]] = []
        self.magnitudes: list[NDArray[np.float64]] = []

    def view(self, batch: tuple[Tensor, ...], count: int) -> None:
        """Add the first `count` samples of a batch."""
        self._row = []
        with torch.no_grad():
            self.run(*batch)
        self.magnitudes.append(torch.stack(self._row, 1).double().numpy()[:count])
        self.features[-1] = self.features[-1][:count]

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n is self._source:
            channels = value if self._channels_last else value.movedim(1, -1)
            self.features.append(channels.reshape(len(value), -1, channels.shape[-1]).double().mean(1).numpy())
        if n.name in self._names and isinstance(value, Tensor) and value.is_floating_point() and len(value) == _BATCH:
            self._row.append(value.reshape(_BATCH, -1).abs().amax(1))
        return value
