"""Number formats by name: `int8`, `int4`, `e4m3`, `fp16`. Which codes each has, and what they can stand for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from edgekit.errors import ShapeError

_INTEGER = re.compile(r"int(\d+)")
_MINIFLOAT = re.compile(r"e(\d)m(\d)")
SMALLEST_BITS, LARGEST_BITS = 3, 8  # of a minifloat: its words fit a byte, and its table 256 entries


@dataclass(frozen=True)
class Integer:
    """Two's complement of `bits` bits. Weights leave the smallest code out, so that the grid is symmetric."""

    bits: int

    @property
    def qmin(self) -> int:
        """Smallest code."""
        return -(1 << (self.bits - 1))

    @property
    def qmax(self) -> int:
        """Largest code."""
        return -1 - self.qmin


@dataclass(frozen=True)
class Minifloat:
    """A float of sign, `exponent` and `mantissa` bits, with subnormals and without a code for infinity.

    A word is sign << (exponent + mantissa) | E << mantissa | M and stands for
    (-1)^sign * 2^(max(E, 1) - bias) * ([E > 0] + M / 2^mantissa). What overflows saturates.

    Attributes:
        reserved: how many of the largest magnitudes stand for no number, as OCP's 8-bit formats have it.

    Source: Aggarwal et al., Shedding the Bits, arXiv:2311.12359; OCP 8-bit Floating Point Specification 1.0.
    """

    exponent: int
    mantissa: int
    reserved: int = 0

    @property
    def bits(self) -> int:
        """Of one word."""
        return 1 + self.exponent + self.mantissa

    @property
    def bias(self) -> int:
        """Taken from the exponent field."""
        return (1 << (self.exponent - 1)) - 1

    @property
    def words(self) -> int:
        """How many words of one sign are numbers: the words 0 to `words` - 1, in rising order of value."""
        return (1 << (self.exponent + self.mantissa)) - self.reserved

    @property
    def smallest_exponent(self) -> int:
        """k of the spacing 2^k near zero, which is the smallest positive value too."""
        return 1 - self.bias - self.mantissa

    @property
    def largest(self) -> float:
        """Largest value."""
        field, rest = divmod(self.words - 1, 1 << self.mantissa)
        return 2.0 ** (max(field, 1) - self.bias) * ((field > 0) + rest / (1 << self.mantissa))


@dataclass(frozen=True)
class Half:
    """A float of 16 bits that processors know: IEEE's `fp16`, or `bf16`, float32 without its lower half."""

    name: str
    bits: int = 16


Number: TypeAlias = Integer | Minifloat | Half

_NAMED: dict[str, Number] = {
    "fp16": Half("fp16"),
    "bf16": Half("bf16"),
    "fp8_e4m3fn": Minifloat(4, 3, reserved=1),
    "fp8_e5m2": Minifloat(5, 2, reserved=4),
}


def parse_number(name: str) -> Integer:
    """The integer format called `name`.

    Raises:
        ShapeError: there is none of that name.
    """
    if (match := _INTEGER.fullmatch(name)) and 2 <= int(match[1]) <= 16:
        return Integer(int(match[1]))
    raise ShapeError(f"no integer format is called {name!r}", "quantisation table", "int2 to int16")


def find_number(name: str) -> Number:
    """The number format called `name`, of any kind.

    Raises:
        ShapeError: there is none of that name.
    """
    if name in _NAMED:
        return _NAMED[name]
    if match := _MINIFLOAT.fullmatch(name):
        found = Minifloat(int(match[1]), int(match[2]))
        if found.exponent >= 1 and SMALLEST_BITS <= found.bits <= LARGEST_BITS:
            return found
    elif _INTEGER.fullmatch(name):
        return parse_number(name)
    raise ShapeError(
        f"no number format is called {name!r}",
        "quantisation table",
        f"int2 to int16; e1m1 to e6m1 of {SMALLEST_BITS} to {LARGEST_BITS} bits; {', '.join(_NAMED)}",
    )
