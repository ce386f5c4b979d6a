"""Latency of a network on a board that is not here: an estimate, never a Profile, so no gate can be met with it.

Two answers: a roofline from the target's published peaks, below which nothing can be, and what was measured of other
networks on such boards, from which a few rates are fitted. The error bar is how far networks left out were missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgekit.errors import DataError
from edgekit.profiling.predict_costs import GraphCosts, KernelCost
from edgekit.profiling.predict_layers import LEARNERS, fit_layers, match, relative_rates
from edgekit.schema.profile import LayerRow
from edgekit.schema.target import Precision, Target

LEAST_NETWORKS = 4  # with fewer, leaving one out says nothing
COVERED = 0.8  # of networks, that the error bar is meant to cover
_PEAK_UNITS = {"TOPS": 1e12, "TFLOPS": 1e12, "GOPS": 1e9, "GFLOPS": 1e9}


@dataclass(frozen=True)
class Estimate:
    """A latency that nobody measured.

    Attributes:
        ms: the estimate; None: there is a floor alone.
        low_ms: lower end of the error bar.
        high_ms: upper end; None where nothing bounds it.
        floor_ms: of the roofline; None where the target publishes no peak or no bandwidth.
        method: how `ms` came about; empty: not at all.
        basis: what it rests on, in words.
    """

    target: str
    runtime: str
    precision: Precision
    ms: float | None
    low_ms: float | None
    high_ms: float | None
    floor_ms: float | None
    method: str
    basis: str

    @property
    def text(self) -> str:
        """For people; always says that it is an estimate."""
        if self.ms is not None and self.low_ms is not None and self.high_ms is not None:
            return f"estimate {self.ms:.3g} ms ({self.low_ms:.3g} to {self.high_ms:.3g})"
        if self.floor_ms is not None:
            return f"estimate: not below {self.floor_ms:.3g} ms"
        return "no estimate"


@dataclass(frozen=True)
class Measured:
    """One measured artifact: which network it is a form of, what it computes, its p50, and its layers, if they are."""

    network: str
    costs: GraphCosts
    ms: float
    layers: tuple[LayerRow, ...] = ()


# what a fit may charge for, from coarse to fine; the data decide by the networks left out
_Features = Callable[[Sequence[KernelCost], Precision], Sequence[float]]


def _macs(kernels: Sequence[KernelCost]) -> float:
    return float(sum(kernel.macs for kernel in kernels))


def _of(kernels: Sequence[KernelCost], *kinds: str) -> list[KernelCost]:
    return [kernel for kernel in kernels if kernel.kind in kinds]


def _bytes(kernels: Sequence[KernelCost], precision: Precision) -> float:
    return sum(kernel.moved_bytes(precision) for kernel in kernels)


CHARGES: Mapping[str, _Features] = {
    "MACs": lambda kernels, precision: (_macs(kernels),),
    "MACs and kernels": lambda kernels, precision: (_macs(kernels), len(kernels)),
    "MACs, bytes and kernels": lambda kernels, precision: (
        _macs(kernels),
        _bytes(kernels, precision),
        len(kernels),
    ),
    "MACs by kind, bytes and kernels": lambda kernels, precision: (
        _macs(_of(kernels, "dense")),
        _macs(_of(kernels, "linear")),
        _macs(_of(kernels, "depthwise")),
        _bytes(kernels, precision),
        len(kernels),
    ),
}


LEAST_LAYERED = 3  # networks with times of layers from which layers are learned
Method = Callable[[Sequence[Measured], Precision], Callable[[GraphCosts], float]]


def _by_charges(name: str) -> Method:
    def learn(measured: Sequence[Measured], precision: Precision) -> Callable[[GraphCosts], float]:
        charges = CHARGES[name]
        rows = np.array([charges(one.costs.kernels, precision) for one in measured], np.float64)
        rates = relative_rates(rows, [one.ms for one in measured])
        return lambda costs: max(float(np.dot(rates, charges(costs.kernels, precision))), 1e-9)

    return learn


def _by_layers(name: str) -> Method:
    def learn(measured: Sequence[Measured], precision: Precision) -> Callable[[GraphCosts], float]:
        found = [match(one.costs, one.layers, one.ms) for one in measured if one.layers]
        return fit_layers(found, precision, name).predict_ms

    return learn


METHODS: Mapping[str, Method] = {
    **{f"rates for {name}": _by_charges(name) for name in CHARGES},
    **{name: _by_layers(name) for name in LEARNERS},
}


@dataclass(frozen=True)
class Fit:
    """What was learned of measured networks in one precision.

    Attributes:
        method: row of METHODS that misses networks left out the least.
        predict_ms: for a network of any precision, as if in this one.
        errors: ln(predicted / measured) of each network when it was left out, by the method that the others chose.
        networks: how many.
    """

    precision: Precision
    method: str
    predict_ms: Callable[[GraphCosts], float] = field(repr=False)
    errors: tuple[float, ...]
    networks: int

    @property
    def error_ratio(self) -> float:
        """Median factor, at least 1, by which a network left out was missed."""
        return math.exp(float(np.median(np.abs(self.errors))))

    @property
    def bar_ratio(self) -> float:
        """Factor, at least 1, within which the next network is met with probability `COVERED`.

        That is, if it is no stranger than the ones measured: the error of rank ceil((n + 1) * COVERED), not n *.
        Source: Barber et al., Predictive inference with the jackknife+, arXiv:1905.02928, section 1.1 (jackknife).
        """
        ranked = sorted(abs(error) for error in self.errors)
        return math.exp(ranked[min(len(ranked), math.ceil((len(ranked) + 1) * COVERED)) - 1])


def fit(measured: Sequence[Measured], precision: Precision, methods: Mapping[str, Method] | None = None) -> Fit:
    """Learn from what was measured in one precision, and from how far networks are missed that were left out.

    Args:
        measured: in any precision.
        precision: the one that is learned.
        methods: to choose from; None: those of METHODS for which there is enough.

    Raises:
        DataError: fewer than LEAST_NETWORKS networks were measured in that precision.
    """
    own = [one for one in measured if one.costs.precision == precision]
    networks = sorted({one.network for one in own})
    if len(networks) < LEAST_NETWORKS:
        raise DataError(
            f"{len(networks)} networks were measured in {precision}",
            "history of profiles",
            f"measure {LEAST_NETWORKS} different ones at least: edgekit build RECIPE --target T --device NAME",
        )
    methods = methods or {name: METHODS[name] for name in _affordable(own)}
    missed = {name: _left_out(method, own, networks, precision) for name, method in methods.items()}

    def best(without: str | None) -> str:
        """A network that is being judged has no say in how."""
        return min(missed, key=lambda name: sum(abs(e) for n, e in missed[name].items() if n != without))

    errors = tuple(missed[best(network)][network] for network in networks)
    method = best(None)
    return Fit(precision, method, methods[method](own, precision), errors, len(networks))


def _left_out(
    method: Method, own: Sequence[Measured], networks: Sequence[str], precision: Precision
) -> dict[str, float]:
    """ln(predicted / measured) of every network, learned from the others; the worst of its forms."""
    missed = {}
    for network in networks:
        predict_ms = method([one for one in own if one.network != network], precision)
        forms = [one for one in own if one.network == network]
        missed[network] = max((math.log(predict_ms(one.costs) / one.ms) for one in forms), key=abs)
    return missed


def _affordable(own: Sequence[Measured]) -> list[str]:
    """Methods for which there is enough: twice as many networks as rates, one being left out; some with layers."""
    rest = len({one.network for one in own}) - 1
    names = [f"rates for {name}" for name, charges in CHARGES.items() if len(charges((), "fp32")) * 2 <= rest]
    if len({one.network for one in own if one.layers}) > LEAST_LAYERED:
        names += LEARNERS
    return names


def roofline_ms(costs: GraphCosts, target: Target, precision: Precision) -> float | None:
    """Time below which no board of the target can be: every kernel at the published peak or bandwidth, which is slower.

    None where the target publishes no peak for the precision, or no bandwidth.

    Source: Williams et al., Roofline, Communications of the ACM 52(4), 2009, applied to each kernel.
    """
    peak, bandwidth = target.peak.get(precision), target.bandwidth
    if peak is None or bandwidth is None or peak.unit not in _PEAK_UNITS or bandwidth.unit != "GB/s":
        return None
    operations_per_s, bytes_per_s = peak.value * _PEAK_UNITS[peak.unit], bandwidth.value * 1e9
    return 1e3 * sum(
        max(2 * kernel.macs / operations_per_s, kernel.moved_bytes(precision) / bytes_per_s) for kernel in costs.kernels
    )


def estimate(
    costs: GraphCosts, target: Target, runtime: str, precision: Precision, measured: Sequence[Measured]
) -> Estimate:
    """What can be said of a network's latency on a target without measuring it.

    Args:
        costs: of the network, in any precision.
        target: where.
        runtime: that the measurements are of.
        precision: that it would compute in.
        measured: other networks, and other forms of this one, on boards of that target.
    """
    floor_ms = roofline_ms(costs, target, precision)
    try:
        found = fit(measured, precision)
    except DataError as err:
        basis = f"roofline of {target.name}'s data sheet; {err.what}, so nothing is fitted"
        if floor_ms is None:
            basis = f"{target.name} publishes no peak or bandwidth for {precision}; {err.what}"
        return Estimate(target.name, runtime, precision, None, floor_ms, None, floor_ms, "", basis)
    ms = found.predict_ms(costs)
    if floor_ms is not None:
        ms = max(ms, floor_ms)
    low_ms = max(ms / found.bar_ratio, floor_ms or 0.0)
    basis = (
        f"{found.networks} networks measured; one left out was missed by a factor of {found.error_ratio:.2f} "
        f"(median); the error bar is a factor of {found.bar_ratio:.2f}, for {COVERED:.0%} of networks"
    )
    return Estimate(target.name, runtime, precision, ms, low_ms, ms * found.bar_ratio, floor_ms, found.method, basis)
