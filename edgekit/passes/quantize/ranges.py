"""From what was seen of activations to their grids, by the observer that the options name."""

from __future__ import annotations

import numpy as np

from edgekit.data.observers import Histogram, Seen
from edgekit.errors import PassError
from edgekit.nets.quantisation import EdgeRange
from edgekit.numerics.number import parse_number
from edgekit.numerics.quantise import affine_grid
from edgekit.numerics.ranges import mse_range
from edgekit.schema.passes import QuantizeOptions


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
    if not (np.isfinite(low) and np.isfinite(high)):
        raise PassError(
            f"activation {name!r} has the range [{low}, {high}]",
            "step quantize",
            "the network overflows on its calibration samples; check its weights and the preprocessing",
        )
    if options.observer == "mse":
        low, high = mse_range(histogram.centres, histogram.counts, low, high, number.qmin, number.qmax)
    return EdgeRange(low, high, *affine_grid(low, high, number.qmin, number.qmax), options.activations)
