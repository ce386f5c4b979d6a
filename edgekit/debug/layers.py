"""Layers of a network or an artifact, in one form whatever they come from, and what can run them.

A *layer* is an operator with the activation, norm or bias behind it that its kernel may take in. Data movement is no
layer: it belongs to what reads its result. Every activation in here is float32 in PyTorch's order (N, C, ...), codes
being turned into the real numbers that they stand for.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
INPUT = "input"  # kind of a network input


@dataclass(frozen=True)
class Grid:
    """Integer codes of an activation: real = scale * (code - zero_point), code in [qmin, qmax]."""

    scale: float
    zero_point: int
    qmin: int
    qmax: int

    @property
    def low(self) -> float:
        """The smallest number on it."""
        return self.scale * (self.qmin - self.zero_point)

    @property
    def high(self) -> float:
        """The largest number on it."""
        return self.scale * (self.qmax - self.zero_point)

    def encode(self, values: Array) -> NDArray[np.int32]:
        """Codes, rounded half to even in float32 as every runtime does, and clipped."""
        codes = np.rint(values.astype(np.float32) / np.float32(self.scale)) + self.zero_point
        clipped: NDArray[np.int32] = np.clip(codes, self.qmin, self.qmax).astype(np.int32)
        return clipped

    def decode(self, codes: NDArray[np.generic]) -> Array:
        """The numbers that codes stand for."""
        return ((codes.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)).astype(np.float32)


@dataclass(frozen=True)
class Weight:
    """Weight of a convolution or linear layer.

    Attributes:
        values: real numbers, (C_out, C_in / groups, *kernel).
        step: distance to the next number that a code could say, broadcast over `values`; 0 where it is float32.
        high: the largest code of an integer; 0 where codes are others, or none.
    """

    values: Array
    step: NDArray[np.float64]
    high: int = 0

    def rounded_to(self, bits: int, group: int | None) -> Weight:
        """The same, with the steps of a grid that its numbers lie on though the file holds them as float32.

        Args:
            bits: of a code.
            group: inputs that share a scale; None: a channel's do.
        """
        flat = np.abs(self.values.reshape(len(self.values), -1)).astype(np.float64)
        size = group or flat.shape[1]
        filled = np.pad(flat, ((0, 0), (0, -flat.shape[1] % size)))
        largest = filled.reshape(len(flat), -1, size).max(2)
        high = (1 << (bits - 1)) - 1
        step = np.repeat(largest / high, size, 1)[:, : flat.shape[1]].reshape(self.values.shape)
        return Weight(self.values, step, high)


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        name: unique on its side: `input:<name>`, else whatever its own file or network calls it.
        tensor: name that an exporter would keep for its output.
        kind: of the operator: `conv`, `linear`, `add`, ...
        sources: names of the layers that it reads.
        grid: of its output, or of what its output is once it has been moved; None where that is float.
        weight_name: as the quantisation table calls its weight; empty where that is not known.
        dynamic: whether what reads it rounds it to 8 bits itself, on a grid of what comes in.
        activated: whether an activation stands behind the operator in the same layer.
        dtype: of its arithmetic where that is float, and of its output where that is.
        shape: of a network input, in PyTorch's order; 0 where a size is free. Empty for any other layer.
    """

    name: str
    tensor: str
    kind: str
    sources: tuple[str, ...]
    grid: Grid | None = None
    weight: Weight | None = None
    weight_name: str = ""
    bias: Array | None = None
    dynamic: bool = False
    activated: bool = False
    dtype: str = "float32"
    shape: tuple[int, ...] = ()


class Run(Protocol):
    """Runs one batch."""

    def __call__(self, given: Mapping[str, Array]) -> dict[str, Array]:
        """The output of every layer.

        Args:
            given: every network input, and the output of every layer that is cut, by the name of the layer. What reads
                a cut layer reads what is given; the layer's own output is still found among the results.
        """
        ...


class Side(Protocol):
    """One of the two things that are compared.

    Attributes:
        title: for people.
        layers: in execution order, network inputs first.
        batch: that it takes; None: any.
        runtimes: what can execute it. The first is what it ships with; a second runs it operator by operator.
    """

    title: str
    layers: tuple[Layer, ...]
    batch: int | None
    runtimes: tuple[str, ...]

    def session(self, runtime: str, cut: frozenset[str]) -> AbstractContextManager[Run]:
        """Load it once; layers in `cut` are cut from what reads them.

        Raises:
            FormatError: the runtime refuses it.
        """
        ...

    def notes(self) -> tuple[str, ...]:
        """What a reader of the comparison should know of how the side was run."""
        ...


def inputs_of(side: Side) -> tuple[Layer, ...]:
    """Its network inputs."""
    return tuple(layer for layer in side.layers if layer.kind == INPUT)
