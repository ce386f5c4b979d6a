"""Number formats by name: `int8`, `int4`. Which codes each has."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgekit.errors import ShapeError

_INTEGER = re.compile(r"int(\d+)")


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


def parse_number(name: str) -> Integer:
    """The number format called `name`.

    Raises:
        ShapeError: there is none of that name.
    """
    if (match := _INTEGER.fullmatch(name)) and 2 <= int(match[1]) <= 16:
        return Integer(int(match[1]))
    raise ShapeError(f"no number format is called {name!r}", "quantisation table", "int2 to int16")
