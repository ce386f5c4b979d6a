"""Minifloat grids: rounding to them, words from values, values from words. The formats themselves: `number.py`.

real = scale * value(word). Everything here is elementwise and exact: a grid point is reached by powers of two alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.numerics.number import Minifloat
from edgekit.numerics.ranges import SHRINKS

# float -> integers of its size, bits of its fraction, bias of its exponent
_LAYOUTS = {torch.float32: (torch.int32, 23, 127), torch.float64: (torch.int64, 52, 1023)}


def spacing(scaled: Tensor, number: Minifloat) -> Tensor:
    """Distance of the grid points around each value of `scaled`, which is values / scale: a power of two.

    The spacing of the value, not of what it rounds to: just below a power of two the grid is twice as fine as above.

    Args:
        scaled: float32 or float64, finite.
    """
    whole, fraction_bits, bias = _LAYOUTS[scaled.dtype]
    # the exponent field is floor(log2 |x|) + bias; log2 itself may round over the next power
    field = scaled.detach().abs().view(whole) >> fraction_bits
    lowest = number.smallest_exponent + bias
    return (field - number.mantissa).clamp_min(lowest).bitwise_left_shift(fraction_bits).view(scaled.dtype)


def round_to_minifloat(values: Tensor, scale: Tensor | float, number: Minifloat) -> Tensor:
    """The nearest points of the grid, ties to even; values outside land on its ends.

    The gradient passes to values inside the range and is 0 outside (straight-through).

    Args:
        scale: of anything that broadcasts with `values`.

    Source: Aggarwal et al., arXiv:2311.12359; the quantiser of Xilinx/brevitas, with frexp in place of log2.
    """
    scaled = (values / scale).clamp(-number.largest, number.largest)
    with torch.no_grad():
        step = spacing(scaled, number)
        rounded = (scaled / step).round_().mul_(step)
    if not scaled.requires_grad:
        return rounded * scale
    # exact: the two are within a factor of 2 of each other, or one is 0, so their difference is a float
    return (scaled + (rounded - scaled.detach())) * scale


def neighbours(values: Tensor, scale: Tensor | float, number: Minifloat) -> tuple[Tensor, Tensor]:
    """The grid points that a value may be rounded to: the one at or below it, and the next above.

    Where a value lies outside, both are the end of the grid. What learned rounding chooses between: with h in [0, 1],
    lower + h * (upper - lower) is the soft weight of AdaRound on this grid.
    """
    scaled = (values / scale).clamp(-number.largest, number.largest)
    step = spacing(scaled, number)
    lower = (scaled / step).floor()
    upper = ((lower + 1) * step).clamp_max(number.largest)
    return lower * step * scale, upper * scale


def minifloat_scales(values: Tensor, axis: int | None, number: Minifloat) -> Tensor:
    """Scales with which the largest magnitude is the largest value: float32 (C,) along `axis`, or () for one of all."""
    others = [dim for dim in range(values.dim()) if dim != axis]
    magnitude = values.detach().abs().amax(others) if others else values.detach().abs()
    # formats of many exponent bits have tiny scales; only an all-zero channel needs a bound
    return (magnitude.double() / number.largest).float().clamp_min(torch.finfo(torch.float32).tiny)


def least_error_scales(values: Tensor, axis: int, number: Minifloat, counts: Tensor | None = None) -> Tensor:
    """Scales that lose least, in mean squared error, one per index of `axis`: float32 (C,).

    Of each channel's largest magnitude 80 shrinks by 1 % are tried; the whole of it wins a tie.

    Args:
        counts: how often each value counts, broadcast against `values` with `axis` first; none: once.
    """
    rows = values.detach().movedim(axis, 0).flatten(1)
    whole = minifloat_scales(rows, 0, number)
    best, least = whole, torch.full_like(whole, torch.inf, dtype=torch.float64)
    for shrink in SHRINKS:
        scale = whole * shrink
        error = (round_to_minifloat(rows, scale[:, None], number) - rows).double().square()
        total = (error if counts is None else error * counts).sum(1)
        better = total < least
        best, least = torch.where(better, scale, best), torch.where(better, total, least)
    return best


def value_table(number: Minifloat) -> Tensor:
    """Value of every word, float32 (2^bits,): first the positive ones in rising order, then the negative.

    Words that are reserved have NaN.
    """
    half = 1 << (number.bits - 1)
    word = torch.arange(half)
    field, rest = word >> number.mantissa, word & ((1 << number.mantissa) - 1)
    fraction = (field > 0) + rest / (1 << number.mantissa)
    values = torch.ldexp(fraction.double(), field.clamp_min(1) - number.bias)
    values[number.words :] = torch.nan
    return torch.cat([values, -values]).float()


def to_words(values: Tensor, scale: Tensor | float, number: Minifloat) -> Tensor:
    """Words of the nearest grid points, uint8, shaped like `values`. Zero is word 0, whatever its sign."""
    on_grid = round_to_minifloat((values / scale).detach(), 1.0, number).float()
    magnitude = torch.searchsorted(value_table(number)[: number.words].contiguous(), on_grid.abs().contiguous())
    sign = (on_grid < 0).to(magnitude.dtype) << (number.bits - 1)
    return (sign | magnitude).to(torch.uint8)


def from_words(words: Tensor, scale: Tensor | float, number: Minifloat) -> Tensor:
    """float32 values of words; `scale` broadcasts with them."""
    return value_table(number)[words.long()] * scale
