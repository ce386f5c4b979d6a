"""What a multiply-accumulate costs in hardware, by number format: width of the exact accumulator, and a proxy for area.

The accumulator's width is arithmetic. The area is a proxy with weights that no synthesis has confirmed: it orders
formats, it is no count of LUTs, and must never be shown as measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgekit.errors import ShapeError
from edgekit.numerics.number import Integer, Minifloat, Number


@dataclass(frozen=True)
class ProxyWeights:
    """Look-up tables per unit of each part of a MAC, uncalibrated.

    One per bit of a sum and per partial product; half of one per bit and stage of a shifter, since a six-input table
    holds a 4-to-1 multiplexer, which is two stages.
    """

    product: float = 1.0
    exponent: float = 1.0
    shift: float = 0.5
    accumulate: float = 1.0


def accumulator_bits(first: Number, second: Number, length: int) -> int:
    """Bits of a register that holds the sum of `length` products exactly.

    Minifloats: 2^ea + ma + 2^eb + mb + ceil(log2 n) - 1, a fixed-point register over the whole range (Kulisch).
    Integers: ra + rb + ceil(log2 n) + 1.

    Raises:
        ShapeError: the operands are not both integers or both minifloats, or `length` is not positive.

    Source: Aggarwal et al., Shedding the Bits, arXiv:2311.12359, section on hardware cost.
    """
    if length < 1:
        raise ShapeError(f"a dot product of {length} terms", "accumulator width", "one term at least")
    growth = (length - 1).bit_length()  # ceil(log2 n)
    if isinstance(first, Integer) and isinstance(second, Integer):
        return first.bits + second.bits + growth + 1
    if isinstance(first, Minifloat) and isinstance(second, Minifloat):
        return (1 << first.exponent) + first.mantissa + (1 << second.exponent) + second.mantissa + growth - 1
    raise ShapeError(
        f"no cost is known for a product of {first} and {second}",
        "hardware cost model",
        "give both operands as integers, or both as minifloats of at most 8 bits",
    )


def lut_proxy(first: Number, second: Number, length: int, weights: ProxyWeights | None = None) -> float:
    """Proxy, uncalibrated, for the look-up tables of one multiplier with its exact accumulator.

    Minifloats: product * (ma + 1)(mb + 1) + exponent * (max(ea, eb) + 1) + shift * A * ceil(log2(2^ea + 2^eb))
    + accumulate * A; integers: product * ra * rb + accumulate * A; A of `accumulator_bits`. The conversion of the sum
    back to a narrow format is not counted, as in the paper.

    Raises:
        ShapeError: as `accumulator_bits`.
    """
    weights = weights or ProxyWeights()
    width = accumulator_bits(first, second, length)
    if isinstance(first, Integer) and isinstance(second, Integer):
        return weights.product * first.bits * second.bits + weights.accumulate * width
    assert isinstance(first, Minifloat)  # or the accumulator had no width
    assert isinstance(second, Minifloat)
    stages = math.ceil(math.log2((1 << first.exponent) + (1 << second.exponent)))
    return (
        weights.product * (first.mantissa + 1) * (second.mantissa + 1)
        + weights.exponent * (max(first.exponent, second.exponent) + 1)
        + weights.shift * width * stages
        + weights.accumulate * width
    )
