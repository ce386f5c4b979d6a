"""Samples in memory: raw arrays with labels, and the splits that a recipe's calibration set cuts out of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edgekit.schema.calibration import Choose


@dataclass(frozen=True)
class RawSamples:
    """One part of a data set as stored: `inputs` (N, ...) in the raw dtype, `labels` (N,) int64."""

    inputs: NDArray[np.generic]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """Preprocessed samples: `inputs` (N, ...) float32 as the network takes them, `labels` (N,) int64."""

    inputs: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def head(self, count: int) -> Samples:
        """The first `count` samples."""
        return Samples(self.inputs[:count], self.labels[:count])

    def take(self, indices: NDArray[np.int64]) -> Samples:
        """The samples at `indices`, in their order."""
        return Samples(self.inputs[indices], self.labels[indices])


@dataclass(frozen=True)
class Splits:
    """What passes may read. The test split is kept by the pipeline.

    Attributes:
        choose: which samples of `calibration` a step that calibrates takes; none: all of them.
    """

    train: Samples | None
    calibration: Samples
    selection: Samples | None
    digest: str
    choose: Choose | None = None
