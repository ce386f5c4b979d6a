"""Why a layer's own error is more than its grids explain, in one sentence: the first cause that holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from edgekit.debug.bounds import MARGIN, Explained
from edgekit.debug.layers import INPUT, Array, Weight
from edgekit.debug.match import Pair
from edgekit.debug.totals import Totals

_MOST = 0.5  # share of an error that a cause must account for
_SAME_GAIN = 0.02  # channels whose weights are off by one factor, to within this
_MEAN_PIXEL = (0.485, 0.456, 0.406)  # of ImageNet, which most published networks are normalised by
_STD_PIXEL = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Evidence:
    """What is known of a layer that is not within bounds.

    Attributes:
        noise: what its grids explain.
        coarse: it is within that, but the noise is too much.
        inputs: one batch of the network inputs that it reads, by name.
        true: the reference's output of the layer for that batch.
        again: runs the cut candidate for that batch with other network inputs.
    """

    pair: Pair
    totals: Totals
    noise: Explained
    coarse: bool
    runtimes: Sequence[str]
    inputs: Mapping[str, Array]
    true: Array
    again: Callable[[Mapping[str, Array]], Mapping[str, Array]]


def find_reason(evidence: Evidence) -> str:
    """One sentence."""
    if evidence.coarse:
        return _coarse(evidence)
    causes = (_not_finite, _fusion, _input_mismatch, _saturation, _weights, _bias)
    for cause in causes:
        if found := cause(evidence):
            return found
    own = evidence.totals.snr_db(evidence.totals.own.squares)
    return (
        f"its own error ({own:.1f} dB) is beyond what its grids explain; neither saturation, weights, bias, "
        "the input's layout nor the runtime's fusion accounts for it"
    )


def _coarse(evidence: Evidence) -> str:
    here, grid = evidence.totals, evidence.pair.candidate.grid
    own = here.snr_db(here.own.squares) or 0.0
    text = f"{evidence.noise.largest} is too coarse: the layer alone has {own:.1f} dB"
    if grid is not None and evidence.noise.largest == "its output's grid":
        used = (here.high - here.low) / grid.scale
        return f"{text}; the values seen span {used:.0f} of {grid.qmax - grid.qmin} steps of {grid.scale:.3g}"
    return text


def _not_finite(evidence: Evidence) -> str:
    return "" if np.isfinite(evidence.totals.own.squares) else "its outputs are not finite"


def _fusion(evidence: Evidence) -> str:
    """The runtime's own kernels, where the graph as it is written is within bounds."""
    here = evidence.totals
    if len(evidence.runtimes) < 2 or not here.mean(here.plain.squares) <= MARGIN * evidence.noise.total:
        return ""
    fused, plain = (_db(here.snr_db(errors.squares)) for errors in (here.own, here.plain))
    return (
        f"the runtime's fused kernel: {evidence.runtimes[0]} gives {fused} where the same graph operator by operator "
        f"gives {plain}"
    )


def _input_mismatch(evidence: Evidence) -> str:
    """The network's input in another order or range, where the layer is right with that."""
    bound = MARGIN * evidence.noise.total
    before = float(np.square(_own(evidence, {}) - evidence.true, dtype=np.float64).mean())
    for name, values in evidence.inputs.items():
        for what, changed in _variants(values):
            error = _own(evidence, {name: changed}) - evidence.true
            power = float(np.square(error, dtype=np.float64).mean())
            if power <= bound and power < before / MARGIN:
                signal = float(np.square(evidence.true, dtype=np.float64).mean())
                db = 10 * np.log10(signal / power) if power > 0 else np.inf
                given = _db(evidence.totals.snr_db(evidence.totals.own.squares))
                called = name.removeprefix("input:")
                return f"layout or preprocessing of {called!r}: with {what} the layer has {db:.1f} dB, as given {given}"
    return ""


def _own(evidence: Evidence, inputs: Mapping[str, Array]) -> Array:
    return evidence.pair.to_reference(evidence.again(inputs)[evidence.pair.candidate.name])


def _variants(values: Array) -> Iterator[tuple[str, Array]]:
    """What an input is often mistaken for."""
    if values.ndim == 4 and values.shape[1] in (2, 3, 4):
        channels = values.shape[1]
        yield "its channels reversed", np.ascontiguousarray(values[:, ::-1])
        for order in permutations(range(channels)):
            if order not in (tuple(range(channels)), tuple(reversed(range(channels)))):
                yield f"its channels in the order {', '.join(map(str, order))}", values[:, list(order)]
    if values.ndim == 4:
        n, c, h, w = values.shape
        if c > 1:
            yield "its memory read as channels-last", values.reshape(n, h, w, c).transpose(0, 3, 1, 2)
            yield "its memory taken from channels-last", values.transpose(0, 2, 3, 1).reshape(n, c, h, w)
        if h == w:
            yield "its height and width swapped", values.transpose(0, 1, 3, 2)
    for factor in (255.0, 127.5, 1 / 255.0, 1 / 127.5, 2.0, 0.5, -1.0):
        yield f"its values times {factor:.4g}", values * np.float32(factor)
    for what, factor, offset in (
        ("from [0, 1] moved to [-1, 1]", 2, -1),
        ("from [-1, 1] moved to [0, 1]", 0.5, 0.5),
        ("from [-1, 1] moved to [0, 255]", 127.5, 127.5),
    ):
        yield f"its values {what}", values * np.float32(factor) + np.float32(offset)
    if values.ndim == 4 and values.shape[1] == 3:
        mean, std = (np.array(item, np.float32).reshape(1, 3, 1, 1) for item in (_MEAN_PIXEL, _STD_PIXEL))
        yield "its normalisation by ImageNet's mean and deviation undone", values * std + mean
        yield "that undone, and times 255", (values * std + mean) * np.float32(255)
        yield "a normalisation by ImageNet's mean and deviation", (values - mean) / std


def _saturation(evidence: Evidence) -> str:
    here, grid = evidence.totals, evidence.pair.candidate.grid
    if grid is None or here.clip_squares < _MOST * here.own.squares:
        return ""
    share = 100 * here.clipped / max(here.values, 1)
    what = "input" if evidence.pair.reference.kind == INPUT else "output"
    return (
        f"saturation: {share:.2g} % of its {what} values lie outside [{grid.low:.4g}, {grid.high:.4g}], the range of "
        f"its grid; the reference reaches [{here.low:.4g}, {here.high:.4g}]"
    )


def _weights(evidence: Evidence) -> str:
    ours, theirs = evidence.pair.reference.weight, evidence.pair.candidate.weight
    if ours is None or theirs is None or ours.values.shape != theirs.values.shape:
        return ""
    error = theirs.values.astype(np.float64) - ours.values
    rounding = sum(float(np.square(np.broadcast_to(w.step, w.values.shape)).sum()) / 12 for w in (ours, theirs))
    squares = float(np.square(ours.values, dtype=np.float64).sum())
    if squares == 0 or float(np.square(error).sum()) <= MARGIN * rounding + 1e-8 * squares:
        return ""
    if found := _weight_gain(ours, theirs, rounding) or _weight_clipping(ours, theirs):
        return found
    db = 10 * np.log10(squares / float(np.square(error).sum()))
    explained = f"{10 * np.log10(squares / rounding):.1f} dB" if rounding > 0 else "none"
    return f"its weights are not the reference's: {db:.1f} dB, where rounding to their grid explains {explained}"


def _weight_gain(ours: Weight, theirs: Weight, rounding: float) -> str:
    """One factor, of all channels or of some, with nothing but rounding beside it."""
    flat, other = (w.values.reshape(len(w.values), -1).astype(np.float64) for w in (ours, theirs))
    powers = np.square(flat).sum(1)
    gains = np.divide((flat * other).sum(1), powers, out=np.ones(len(flat)), where=powers > 0)
    off = np.abs(gains - 1) > _SAME_GAIN
    rest = float(np.square(other - gains[:, None] * flat).sum())
    if not off.any() or np.ptp(gains[off]) > _SAME_GAIN * abs(gains[off].mean()):
        return ""
    if rest > MARGIN * rounding + 1e-8 * float(powers.sum()):
        return ""
    counted = powers > 0
    where = "" if off[counted].all() else f" in {int(off.sum())} of {int(counted.sum())} channels"
    return f"its weights are {gains[off].mean():.3g} times the reference's{where}: a scale is wrong"


def _weight_clipping(ours: Weight, theirs: Weight) -> str:
    """Weights beyond the ends of their grid, and stored as these ends."""
    if not theirs.high:
        return ""
    step = np.broadcast_to(theirs.step, theirs.values.shape)
    at_end = np.abs(theirs.values) >= (theirs.high - 0.5) * step
    beyond = at_end & (np.abs(ours.values) > (theirs.high + 1) * step)
    squares = np.square(theirs.values.astype(np.float64) - ours.values)
    if squares[beyond].sum() < _MOST * squares.sum():
        return ""
    return f"its weights overflow: {100 * beyond.mean():.2g} % of them lie beyond the ends of their grid"


def _bias(evidence: Evidence) -> str:
    """An error that is the same all over a channel."""
    here = evidence.totals
    ours, theirs = evidence.pair.reference.bias, evidence.pair.candidate.bias
    counted = here.values / len(here.shift)
    constant = float(np.square(here.shift).sum() / counted)
    offset = "" if here.own.squares == 0 else f"{100 * min(constant / here.own.squares, 1):.0f} % of its error"
    if ours is not None and theirs is None and evidence.pair.candidate.weight is not None:
        largest = float(np.abs(ours).max())
        return f"its bias is missing: the reference's reaches {largest:.4g}, and {offset} is one constant a channel"
    if ours is not None and theirs is not None and ours.shape == theirs.shape:
        change = float(np.abs(theirs - ours).max())
        if constant >= _MOST * here.own.squares or change > _MOST * float(np.abs(ours).max()):
            return f"its bias is off by up to {change:.4g} (the reference's reaches {float(np.abs(ours).max()):.4g})"
    if constant >= _MOST * here.own.squares:
        return f"{offset} is one constant a channel: a bias, a zero point or a mean is wrong"
    return ""


def _db(value: float | None) -> str:
    return "no error" if value is None else f"{value:.1f} dB"
