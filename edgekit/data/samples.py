"""Samples in memory: raw arrays with labels, and the splits that a recipe's calibration set cuts out of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgekit.schema.calibration import Choose


@dataclass(frozen=True)
class RawSamples:
    """One part of a data set as stored.

    Attributes:
        inputs: for each input of the network, in its order, (N, ...) in the raw dtype.
        labels: (N, ...), int64 or float32: a class, a sequence of tokens, numbers to predict, boxes.
    """

    inputs: tuple[NDArray[Any], ...]
    labels: NDArray[Any]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: slice | NDArray[np.int64]) -> RawSamples:
        """The samples of a slice, or at indices, in their order."""
        return RawSamples(tuple(array[chosen] for array in self.inputs), self.labels[chosen])


@dataclass(frozen=True)
class Samples:
    """Preprocessed samples.

    Attributes:
        inputs: for each input of the network, in its order, (N, ...) as the network takes it: float32, or integers.
        labels: (N, ...), int64 or float32.
    """

    inputs: tuple[torch.Tensor, ...]
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def head(self, count: int) -> Samples:
        """The first `count` samples."""
        return Samples(self.batch(0, count), self.labels[:count])

    def take(self, indices: NDArray[np.int64]) -> Samples:
        """The samples at `indices`, in their order."""
        return Samples(tuple(tensor[indices] for tensor in self.inputs), self.labels[indices])

    def batch(self, start: int, stop: int) -> tuple[torch.Tensor, ...]:
        """The inputs of samples `start` up to `stop`."""
        return tuple(tensor[start:stop] for tensor in self.inputs)


def filled(inputs: tuple[torch.Tensor, ...], batch: int) -> tuple[torch.Tensor, ...]:
    """Inputs (N, ...) with copies of the last sample behind, so that N is a multiple of `batch`."""
    return tuple(torch.cat([own, own[-1:].expand(-len(own) % batch, *own.shape[1:])]) for own in inputs)


def in_batches(inputs: Sequence[torch.Tensor], batch: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """Inputs (N, ...) a batch at a time; the last one is smaller where `batch` does not divide N."""
    return zip(*(torch.split(own, batch) for own in inputs), strict=True)


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
