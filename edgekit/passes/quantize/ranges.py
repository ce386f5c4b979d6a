"""From what was seen of activations to their grids, by the observer that the options name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from edgekit.data.observers import Histogram, Seen
from edgekit.errors import PassError
from edgekit.nets.quantisation import EdgeRange
from edgekit.numerics.number import Integer, parse_number
from edgekit.numerics.quantise import affine_grid
from edgekit.numerics.ranges import entropy_range, mse_range, percentile_range
from edgekit.schema.passes import QuantizeOptions

Observer: TypeAlias = Callable[[Histogram, Integer, QuantizeOptions], tuple[float, float]]


def _min_max(seen: Histogram, number: Integer, options: QuantizeOptions) -> tuple[float, float]:
    return seen.low, seen.high


def _mse(seen: Histogram, number: Integer, options: QuantizeOptions) -> tuple[float, float]:
    return mse_range(seen.centres, seen.counts, seen.low, seen.high, number.qmin, number.qmax)


def _percentile(seen: Histogram, number: Integer, options: QuantizeOptions) -> tuple[float, float]:
    return percentile_range(seen.counts, seen.width, seen.low, seen.high, options.percentile)


def _entropy(seen: Histogram, number: Integer, options: QuantizeOptions) -> tuple[float, float]:
    return entropy_range(seen.counts, seen.width, seen.low, seen.high, number.qmax + 1)


OBSERVERS: Mapping[str, Observer] = {
    "min-max": _min_max,
    "mse": _mse,
    "percentile": _percentile,
    "entropy": _entropy,
}


def decide_edges(seen: Seen, options: QuantizeOptions) -> dict[str, EdgeRange]:
    """A grid for every activation.

    Raises:
        PassError: an activation is not finite.
    """
    return {name: decide_edge(name, histogram, options) for name, histogram in seen.histograms.items()}


def decide_edge(name: str, histogram: Histogram, options: QuantizeOptions) -> EdgeRange:
    """The grid of one activation.

    Raises:
        PassError: it is not finite.
    """
    number = parse_number(options.activations)
    low, high = histogram.low, histogram.high
    check_finite(name, low, high)
    if low < high:  # else it is 0 everywhere, and no observer has anything to choose from
        low, high = OBSERVERS[options.observer](histogram, number, options)
    return EdgeRange(low, high, *affine_grid(low, high, number.qmin, number.qmax), options.activations)


def check_finite(name: str, low: float, high: float) -> None:
    """Refuse an activation whose range is not finite.

    Raises:
        PassError: naming it and its layer; as edges are decided in execution order, it is the first.
    """
    if np.isfinite(low) and np.isfinite(high):
        return
    seen = "NaN" if np.isnan(low) or np.isnan(high) else "an infinity"
    if name.startswith("input:"):
        raise PassError(
            f"the calibration samples hold {seen}",
            f"step quantize, {name}",
            "correct the data or its preprocessing: a division by a std of 0 gives such values",
        )
    layer = name.rpartition("/")[0] or "(the network itself)"
    raise PassError(
        f"activation {name!r} holds {seen} on the calibration samples; those before it are finite",
        f"step quantize, layer {layer}",
        "the network overflows there; check its weights and the preprocessing",
    )
