"""The quantisation table: scales, zero points, ranges and integer codes, decided once for every convention.

An *edge* is an activation tensor of the canonical program (`nets/program.py`), named `<module path>/<op>` or
`input:<name>`. A *weight* is named `<module path>.weight`. real = scale * (code - zero_point) everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from edgekit.numerics.minifloat import from_words, to_words
from edgekit.numerics.number import Half, Minifloat, find_number

HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}  # PyTorch's names of them


@dataclass(frozen=True)
class EdgeRange:
    """What an activation was seen to be, and the affine grid decided from it.

    `low` <= 0 <= `high`. `scale` and `zero_point` are for signed codes of `number`, such as [-128, 127] of int8; the
    unsigned form of the same grid is `zero_point + 128`. Of a minifloat, real = scale * value and zero_point is 0.
    """

    low: float
    high: float
    scale: float
    zero_point: int
    number: str = "int8"

    @property
    def bits(self) -> int:
        """Of one code."""
        return find_number(self.number).bits


@dataclass(frozen=True)
class WeightCodes:
    """Symmetric codes of a weight: real = scale * what the code stands for.

    Attributes:
        codes: int8, shaped like the weight: integers, or the bits of a minifloat's word; int16 the bits of a half.
        scale: float32 (C,) along `axis`; or (C, G) for groups of `group` inputs, axis 0; or (1,), as halves have it.
        group: inputs (flattened behind axis 0) that share a scale; the last group may be shorter. None: all of them.
    """

    codes: torch.Tensor
    scale: torch.Tensor
    axis: int
    number: str = "int8"
    group: int | None = None

    @property
    def bits(self) -> int:
        """Of one code."""
        return find_number(self.number).bits

    def values(self) -> torch.Tensor:
        """float32, shaped like the weight: what the codes stand for."""
        number = find_number(self.number)
        real = self.codes.to(torch.float32)
        if isinstance(number, Minifloat):
            real = from_words(self.codes.view(torch.uint8), 1.0, number)
        elif isinstance(number, Half):
            real = self.codes.view(HALVES[number.name]).to(torch.float32)
        return real * self.spread()

    def spread(self) -> torch.Tensor:
        """The scale of every single code, shaped like the weight."""
        if self.group is None:
            shape = [1] * self.codes.dim()
            shape[self.axis] = -1
            return self.scale.reshape(shape).expand(self.codes.shape)
        flat = self.codes.flatten(1)
        return self.scale.repeat_interleave(self.group, 1)[:, : flat.shape[1]].reshape(self.codes.shape)

    def at(self, points: torch.Tensor) -> WeightCodes:
        """The same grid with other codes: those of `points`, which are on it, in units of the scale."""
        number = find_number(self.number)
        if isinstance(number, Minifloat):
            return replace(self, codes=to_words(points.float(), 1.0, number).view(torch.int8))
        return replace(self, codes=points.round().to(torch.int8))


@dataclass(frozen=True)
class Kept:
    """Why a layer has a higher precision than the rest: its `number` is `float` or a wider format."""

    number: str
    reason: str


@dataclass(frozen=True)
class QuantisationTable:
    """Everything that quantisation decided about one network.

    Attributes:
        edges: activation name -> its grid. An empty table of edges: activations stay float (weight-only).
        weights: weight name -> its codes.
        means: activation name of a convolution or linear layer -> (C_in,) float32, the mean of each channel of its
            input over the calibration samples. A convention takes from it how much its rounding shifts the outputs.
        shifts: activation name of a layer -> (C_out,) float32, how much quantisation shifts its outputs on average, as
            measured with the codes of this table. Where there is one it replaces what `means` would give.
        kept: activation name of a layer -> why its precision is higher than the rest. One kept in `float` has neither
            a grid nor codes that count: no convention may quantise it.
        activations: what activations are computed in: the number format of `edges`; or, without any edge, `float`,
            `dynamic` (integers on a grid that is made from each input as it comes) or `fp16`.
    """

    edges: dict[str, EdgeRange]
    weights: dict[str, WeightCodes]
    means: dict[str, torch.Tensor] = field(default_factory=dict)
    shifts: dict[str, torch.Tensor] = field(default_factory=dict)
    kept: dict[str, Kept] = field(default_factory=dict)
    activations: str = "int8"

    @property
    def integer(self) -> bool:
        """Whether activations are codes of the grids in `edges`, which a convention places."""
        return self.activations.startswith("int")
