"""Sums over samples of one layer's values and errors, kept as samples pass by, so memory does not grow with them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgekit.debug.layers import Array, Grid


@dataclass
class Errors:
    """What two arrays of the same values differ by."""

    squares: float = 0.0
    largest: float = 0.0

    def add(self, error: Array) -> None:
        """One batch of differences."""
        self.squares += float(np.square(error, dtype=np.float64).sum())
        self.largest = max(self.largest, float(np.abs(error).max(initial=0.0)))
        if not math.isfinite(self.squares):
            self.largest = math.inf


@dataclass
class Totals:
    """Of one pair of layers.

    Attributes:
        values, squares: how many reference values there were, and the sum of their squares.
        channel_squares: the same by axis 1, (C,).
        accumulated: the candidate as it runs, against the reference.
        own: the candidate's layer fed with the reference's inputs, in the runtime that it ships with.
        plain: the same, operator by operator.
        fused: those two against each other.
        input_noise: the reference's own layer fed with its inputs rounded to the candidate's grids.
        clipped, clip_squares: values outside the candidate's grid, and how far, squared.
        shift: mean of `own` errors by axis 1, summed, (C,).
    """

    values: int = 0
    samples: int = 0
    squares: float = 0.0
    low: float = 0.0
    high: float = 0.0
    dot: float = 0.0
    candidate_squares: float = 0.0
    channel_squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    accumulated: Errors = field(default_factory=Errors)
    plain_accumulated: Errors = field(default_factory=Errors)
    own: Errors = field(default_factory=Errors)
    plain: Errors = field(default_factory=Errors)
    fused: Errors = field(default_factory=Errors)
    input_noise: float = 0.0
    clipped: int = 0
    clip_squares: float = 0.0
    shift: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))

    def add_reference(self, reference: Array, grid: Grid | None) -> None:
        """One batch of the reference's values; `grid` is the candidate's."""
        exact = reference.astype(np.float64)
        self.values += reference.size
        self.squares += float(np.square(exact).sum())
        self.channel_squares = self.channel_squares + _by_channel(np.square(exact))
        self.low = min(self.low, float(reference.min(initial=0.0)))
        self.high = max(self.high, float(reference.max(initial=0.0)))
        if grid is not None:
            beyond = np.maximum(exact - grid.high, 0) + np.maximum(grid.low - exact, 0)
            self.clip_squares += float(np.square(beyond).sum())
            self.clipped += int((beyond > grid.scale / 2).sum())

    def add_candidate(self, reference: Array, candidate: Array) -> None:
        """One batch of what the candidate computes as a whole."""
        self.accumulated.add(candidate - reference)
        self.dot += float((reference.astype(np.float64) * candidate).sum())
        self.candidate_squares += float(np.square(candidate, dtype=np.float64).sum())

    def add_own(self, reference: Array, own: Array) -> None:
        """One batch of the layer alone."""
        self.own.add(own - reference)
        self.shift = self.shift + _by_channel((own - reference).astype(np.float64))

    @property
    def power(self) -> float:
        """Mean square of the reference."""
        return self.squares / max(self.values, 1)

    @property
    def cosine(self) -> float | None:
        """Of the angle between the two as a whole; None where one is all zeros, or not finite."""
        size = math.sqrt(self.squares) * math.sqrt(self.candidate_squares)
        return self.dot / size if size > 0 and math.isfinite(size) else None

    def mean(self, squares: float) -> float:
        """A sum over all values as a mean."""
        return squares / max(self.values, 1)

    def snr_db(self, squares: float) -> float | None:
        """10 log10(sum ref^2 / sum err^2); None where there is no error, no signal, or a number that is not finite."""
        if not (squares > 0 and self.squares > 0 and math.isfinite(squares)):
            return None
        return 10 * math.log10(self.squares / squares)


def _by_channel(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums by axis 1; the whole sum where there is none."""
    if values.ndim < 2:
        return np.array([values.sum()])
    result: NDArray[np.float64] = values.sum(axis=tuple(i for i in range(values.ndim) if i != 1))
    return result
