"""Latency from the times of single layers: what each kernel of a network would take, learned from kernels of others.

A network has tens of kernels, so a few networks teach more here than their sums do. What a runtime does besides
(conversions, reordering, pooling) is charged for the network as a whole.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.profiling.predict_costs import GraphCosts, KernelCost, Kind
from edgekit.schema.profile import LayerRow
from edgekit.schema.target import Precision

_KINDS: tuple[Kind, ...] = ("dense", "depthwise", "linear")
_OWN_KIND = 6  # kernels of a kind that it takes to have rates of its own
# what ONNX Runtime adds to the names of nodes that it replaces
_ADDED = re.compile(r"^InsertedPrecisionFreeCast_|(_nchwc|_token_\d+)$")
_MULTIPLIES = re.compile(r"Conv|Gemm|MatMul")


@dataclass(frozen=True)
class Layered:
    """A measured network: its kernels with multiply-accumulates and the ms of each, and of everything else together.

    A profiler takes time at every layer, and its runs are others than those that were timed: its times only share out
    the p50, which is the sum of all ms here.
    """

    costs: GraphCosts
    kernels: tuple[tuple[KernelCost, float], ...]
    other_ms: float


def match(costs: GraphCosts, layers: Sequence[LayerRow], ms: float) -> Layered:
    """Which layer of a profile ran which kernel of the file: by name; the rest in order, if they are equally many.

    Args:
        costs: of the file.
        layers: of its profile.
        ms: its p50, without the profiler.
    """
    waiting = {name: kernel for kernel in costs.kernels if kernel.macs for name in kernel.names}
    found: dict[str, float] = {}
    unnamed: list[float] = []
    other_ms = 0.0
    for layer in layers:
        kernel = waiting.get(_ADDED.sub("", _ADDED.sub("", layer.name)))
        if kernel is not None and kernel.name not in found:
            found[kernel.name] = layer.mean_ms
        elif _MULTIPLIES.search(layer.operator):  # a sum was fused into it, and gave it its name
            unnamed.append(layer.mean_ms)
        else:
            other_ms += layer.mean_ms
    left = [kernel.name for kernel in costs.kernels if kernel.macs and kernel.name not in found]
    if len(left) == len(unnamed):
        found.update(zip(left, unnamed, strict=True))
    else:
        other_ms += sum(unnamed)
    share = ms / (sum(found.values()) + other_ms)
    pairs = tuple((kernel, found[kernel.name] * share) for kernel in costs.kernels if kernel.name in found)
    return Layered(costs, pairs, other_ms * share)


Predictor = Callable[[KernelCost], float]
Learner = Callable[[Sequence[tuple[KernelCost, float]], Precision], Predictor]


def learn_rates(pairs: Sequence[tuple[KernelCost, float]], precision: Precision) -> Predictor:
    """ms per multiply-accumulate, per byte and per kernel, for each kind of which there are enough, else for all."""

    def rows(kernels: Sequence[KernelCost]) -> NDArray[np.float64]:
        return np.array([[kernel.macs, kernel.moved_bytes(precision), 1.0] for kernel in kernels])

    rates: dict[Kind | None, NDArray[np.float64]] = {}
    for kind in (None, *_KINDS):
        own = [(kernel, ms) for kernel, ms in pairs if kind is None or kernel.kind == kind]
        if kind is None or len(own) >= _OWN_KIND:
            rates[kind] = relative_rates(rows([kernel for kernel, _ in own]), [ms for _, ms in own])
    return lambda kernel: float((rows([kernel]) @ rates.get(kernel.kind, rates[None]))[0])


def learn_boosting(pairs: Sequence[tuple[KernelCost, float]], precision: Precision) -> Predictor:
    """Gradient boosting of ln(ms) on logarithms of what a kernel computes and moves, and on its kind."""
    from sklearn.ensemble import GradientBoostingRegressor  # an extra's

    def row(kernel: KernelCost) -> list[float]:
        sizes = [math.log1p(kernel.macs), math.log1p(kernel.values), math.log1p(kernel.weights)]
        return [*sizes, math.log1p(kernel.macs / max(kernel.values, 1)), *(float(kernel.kind == k) for k in _KINDS)]

    model: Any = GradientBoostingRegressor(n_estimators=150, max_depth=3, learning_rate=0.08, random_state=0)
    model.fit([row(kernel) for kernel, _ in pairs], [math.log(max(ms, 1e-6)) for _, ms in pairs])
    return lambda kernel: math.exp(float(model.predict([row(kernel)])[0]))


LEARNERS: dict[str, Learner] = {
    "rates of each kind of layer": learn_rates,
    "gradient boosting on layers": learn_boosting,
}


@dataclass(frozen=True)
class LayerFit:
    """What was learned of layers, for one precision."""

    precision: Precision
    predict_kernel: Predictor
    other_rates: tuple[float, ...]

    def predict_ms(self, costs: GraphCosts) -> float:
        """Of a whole network."""
        kernels_ms = sum(max(self.predict_kernel(kernel), 0.0) for kernel in costs.kernels if kernel.macs)
        other_ms = float(np.dot(self.other_rates, _others(costs, self.precision)))
        return max(kernels_ms + other_ms, 1e-9)


def fit_layers(found: Sequence[Layered], precision: Precision, learner: str) -> LayerFit:
    """Learn from at least one network with layers."""
    pairs = [pair for one in found for pair in one.kernels]
    others = np.array([_others(one.costs, precision) for one in found])
    rates = relative_rates(others, [max(one.other_ms, 1e-6) for one in found])
    return LayerFit(precision, LEARNERS[learner](pairs, precision), tuple(map(float, rates)))


def _others(costs: GraphCosts, precision: Precision) -> list[float]:
    rest = [kernel for kernel in costs.kernels if not kernel.macs]
    return [float(len(rest)), sum(kernel.moved_bytes(precision) for kernel in rest), 1.0]


def relative_rates(rows: NDArray[np.float64], ms: Sequence[float]) -> NDArray[np.float64]:
    """Non-negative least squares of the relative error of `rows @ rates` from `ms`: the small count like the large.

    Args:
        rows: (N, K).
        ms: (N,), positive.

    Returns:
        (K,).
    """
    from scipy.optimize import nnls  # an extra's

    relative = rows / np.asarray(ms, np.float64)[:, None]
    scale = relative.max(axis=0)
    scale[scale == 0] = 1.0
    found, _ = nnls(relative / scale, np.ones(len(relative)))
    return np.asarray(found / scale, np.float64)
