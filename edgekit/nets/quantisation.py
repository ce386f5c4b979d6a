"""The quantisation table: scales, zero points, ranges and integer codes, decided once for every convention.

An *edge* is an activation tensor of the canonical program (`nets/program.py`), named `<module path>/<op>` or
`input:<name>`. A *weight* is named `<module path>.weight`. real = scale * (code - zero_point) everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class EdgeRange:
    """What an activation was seen to be, and the affine int8 grid decided from it.

    `low` <= 0 <= `high`. `scale` and `zero_point` are for signed codes in [-128, 127]; the unsigned form of the same
    grid is `zero_point + 128`.
    """

    low: float
    high: float
    scale: float
    zero_point: int
    bits: int = 8


@dataclass(frozen=True)
class WeightCodes:
    """Symmetric integer codes of a weight: real = scale[c] * codes[c], c along `axis`.

    codes: int8, shaped like the weight. scale: float32 (C,).
    """

    codes: torch.Tensor
    scale: torch.Tensor
    axis: int
    bits: int = 8


@dataclass(frozen=True)
class QuantisationTable:
    """Everything that quantisation decided about one network.

    Attributes:
        means: activation name of a convolution or linear layer -> (C_in,) float32, the mean of each channel of its
            input over the calibration samples. A convention takes from it how much its rounding shifts the outputs.
    """

    edges: dict[str, EdgeRange]
    weights: dict[str, WeightCodes]
    means: dict[str, torch.Tensor] = field(default_factory=dict)
