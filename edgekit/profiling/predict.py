"""Latency of a network on a board that is not here: an estimate, never a Profile, so no gate can be met with it.

Two answers: a roofline from the target's published peaks, below which nothing can be, and what was measured of other
networks on such boards, from which a few rates are fitted. The error bar is how far networks left out were missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError
from edgekit.profiling.predict_costs import GraphCosts, KernelCost
from edgekit.schema.target import Precision, Target

LEAST_NETWORKS = 4  # with fewer, leaving one out says nothing
COVERED = 0.8  # share of the networks left out that the error bar covered
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
    """One measured artifact: which network it is a form of, what it computes, and its p50."""

    network: str
    costs: GraphCosts
    ms: float


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


@dataclass(frozen=True)
class Fit:
    """Rates fitted to measured networks of one precision.

    Attributes:
        charges: name of the row of CHARGES.
        rates: ms per unit of each, none negative.
        errors: ln(predicted / measured) of each network when it was left out of everything, the choice of charges too.
        networks: how many.
    """

    precision: Precision
    charges: str
    rates: tuple[float, ...]
    errors: tuple[float, ...] = field(repr=False)
    networks: int

    def predict_ms(self, costs: GraphCosts) -> float:
        """For the same precision, whatever that of `costs`."""
        return _predict(self.charges, self.rates, costs, self.precision)

    @property
    def error_ratio(self) -> float:
        """Median factor, at least 1, by which a network left out was missed."""
        return math.exp(float(np.median(np.abs(self.errors))))

    @property
    def bar_ratio(self) -> float:
        """Factor, at least 1, within which `COVERED` of the networks left out were met (nearest rank)."""
        ranked = sorted(abs(error) for error in self.errors)
        return math.exp(ranked[math.ceil(COVERED * len(ranked)) - 1])


def fit(measured: Sequence[Measured], precision: Precision) -> Fit:
    """Rates for one precision, and how far off they are on networks that they have not seen.

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
    errors: list[float] = []
    for network in networks:
        rest = [one for one in own if one.network != network]
        charges = _choose(rest)
        rates = _rates(charges, rest)
        missed = [
            math.log(_predict(charges, rates, one.costs, precision) / one.ms) for one in own if one.network == network
        ]
        errors.append(max(missed, key=abs))
    charges = _choose(own)
    return Fit(precision, charges, _rates(charges, own), tuple(errors), len(networks))


def _choose(measured: Sequence[Measured]) -> str:
    """The charges whose rates miss networks left out the least; never more rates than half of the networks."""
    networks = sorted({one.network for one in measured})

    def missed(charges: str) -> float:
        total = 0.0
        for network in networks:
            rates = _rates(charges, [one for one in measured if one.network != network])
            for one in measured:
                if one.network == network:
                    total += abs(math.log(_predict(charges, rates, one.costs, one.costs.precision) / one.ms))
        return total

    return min(_affordable(len(networks)), key=missed)


def _affordable(networks: int) -> list[str]:
    names = [name for name, charges in CHARGES.items() if len(charges((), "fp32")) * 2 <= networks]
    return names or [next(iter(CHARGES))]


def _rates(charges: str, measured: Sequence[Measured]) -> tuple[float, ...]:
    """Non-negative least squares of the relative error: a small network counts as much as a large one."""
    from scipy.optimize import nnls  # an extra's

    rows: NDArray[np.float64] = np.array(
        [np.asarray(CHARGES[charges](one.costs.kernels, one.costs.precision), np.float64) / one.ms for one in measured]
    )
    scale = rows.max(axis=0)
    scale[scale == 0] = 1.0
    found, _ = nnls(rows / scale, np.ones(len(rows)))
    return tuple(float(rate) for rate in found / scale)


def _predict(charges: str, rates: Sequence[float], costs: GraphCosts, precision: Precision) -> float:
    asked = CHARGES[charges](costs.kernels, precision)
    return max(sum(rate * amount for rate, amount in zip(rates, asked, strict=True)), 1e-9)


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
        f"(median), {COVERED:.0%} of them by less than {found.bar_ratio:.2f}"
    )
    method = f"rates for {found.charges}"
    return Estimate(target.name, runtime, precision, ms, low_ms, ms * found.bar_ratio, floor_ms, method, basis)
