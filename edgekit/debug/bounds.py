"""How much error a layer's grids explain: the bound that its own error is held against.

A value rounded to steps of s is off by a number that is uniform in [-s/2, s/2], whose mean square is s^2 / 12
(Bennett, Spectra of quantized signals, 1948). A layer that is fed with the reference's inputs has three such noises: of
its inputs, carried through the layer; of its weights, times the inputs; of its output. What is more than `MARGIN` times
their sum is no rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgekit.debug.layers import INPUT, Grid, Weight
from edgekit.debug.match import Pair
from edgekit.debug.totals import Totals

# 6 dB: numbers rounded up or down by chance, as far as AdaRound may go from the nearest, err s^2 / 3, not s^2 / 12
MARGIN = 4.0
COARSE_DB = 10.0  # a layer whose own error is within bounds, but above a tenth of its signal
_SAME_STEP = 1e-4  # of the largest: steps are found by subtracting float32 numbers
# what arithmetic in a number format explains by itself: sums in another order, fast convolutions
_ARITHMETIC_DB = {"float32": 80.0, "float16": 40.0, "bfloat16": 22.0}


@dataclass(frozen=True)
class Explained:
    """Mean squares of the noises that a layer's grids make, and of what its arithmetic rounds.

    Attributes:
        clipping: of values outside the output's grid; counted for random samples, which say nothing of ranges.
    """

    inputs: float
    weights: float
    output: float
    arithmetic: float
    clipping: float = 0.0

    @property
    def total(self) -> float:
        """Mean square of all of them."""
        return self.inputs + self.weights + self.output + self.arithmetic + self.clipping

    @property
    def largest(self) -> str:
        """Where most of it comes from."""
        noises = {"its inputs' grid": self.inputs, "its weights' grid": self.weights, "its output's grid": self.output}
        return max(noises, key=noises.__getitem__)


def explain(pair: Pair, totals: Mapping[str, Totals], *, clipping: bool = False) -> Explained:
    """The noises of a pair's layer, those of the reference's own grids included.

    Where a grid is finer than one that covers every value seen, as an observer that clips outliers makes it, the noise
    of the one that covers them counts: clipping is a gain only as long as it errs less than that.

    Args:
        totals: of every layer of the reference, by name.
        clipping: whether values outside the output's grid are explained too.
    """
    own = totals[pair.reference.name]
    sides = (pair.reference, pair.candidate)
    output = sum(_output_noise(layer.grid, own) for layer in sides if layer.grid is not None)
    weights = 0.0
    if pair.reference.kind != INPUT and pair.reference.sources:
        source = totals.get(pair.reference.sources[0])
        if source is not None:
            reference = pair.reference.weight
            weights = sum(_weight_noise(layer.weight, reference, source) for layer in sides if layer.weight is not None)
    dtypes = {layer.dtype for layer in sides}
    arithmetic = own.power / 10 ** (min(_ARITHMETIC_DB.get(dtype, 80.0) for dtype in dtypes) / 10)
    clipped = own.mean(own.clip_squares) if clipping else 0.0
    return Explained(own.mean(own.input_noise), weights, output, arithmetic, clipped)


def _output_noise(grid: Grid, own: Totals) -> float:
    covering = (own.high - own.low) / (grid.qmax - grid.qmin)
    return max(grid.scale, covering) ** 2 / 12


def _weight_noise(weight: Weight, reference: Weight | None, source: Totals) -> float:
    """Mean over the outputs of sum(step^2 / 12 * x^2), the sum over the inputs of an output.

    Where a convolution has groups each counts the inputs of its own; elsewhere all inputs count alike.
    """
    steps = np.broadcast_to(weight.step, weight.values.shape).reshape(len(weight.values), -1).astype(np.float64)
    if reference is not None and reference.values.shape == weight.values.shape:
        exact = np.abs(reference.values.astype(np.float64)).reshape(steps.shape)
        if weight.high:  # groups of a channel cover what is in them by themselves
            whole = np.ptp(steps, axis=1, keepdims=True) <= _SAME_STEP * steps.max(1, keepdims=True)
            steps = np.where(whole, np.maximum(steps, exact.max(1, keepdims=True) / weight.high), steps)
        squares = np.minimum(np.square(steps) / 12, np.square(exact))  # what is small becomes 0: off by itself
    else:
        squares = np.square(steps) / 12
    noise = squares.sum(1)  # (C_out,)
    channels = len(source.channel_squares)
    groups = channels // weight.values.shape[1] if weight.values.ndim > 2 else 1
    per_channel = source.channel_squares / max(source.values // channels, 1)
    if groups > 1 and groups * weight.values.shape[1] == channels and len(noise) % groups == 0:
        power = np.repeat(per_channel.reshape(groups, -1).mean(1), len(noise) // groups)
    else:
        power = np.full(len(noise), source.power)
    return float((noise * power).mean())
