"""What a pass is handed besides the model and its options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from torch import nn

from edgekit.data.samples import Splits
from edgekit.data.score import Score
from edgekit.nets.model import Model
from edgekit.schema.calibration import CalibrationRow
from edgekit.schema.distilled import DistillRow
from edgekit.schema.precision import GuardRow, MixedRow
from edgekit.schema.profile import Profile
from edgekit.schema.pruned import PruneRow
from edgekit.schema.sparsity import SparsityRow
from edgekit.schema.target import Target

Found: TypeAlias = CalibrationRow | DistillRow | GuardRow | MixedRow | PruneRow | SparsityRow


class Progress(Protocol):
    """Told how far a pass is."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units are finished."""


def _forget(found: Found) -> None:
    pass


@dataclass(frozen=True)
class Context:
    """Frozen surroundings of one step.

    Attributes:
        splits: preprocessed samples; the test split is not among what a pass may read.
        teachers: those to learn from, trained, one at least; raises PassError where there is none.
        score: what the recipe judges by.
        measure: latency of a model on the chosen device, or None where nothing measures.
        lower: the Q/DQ program of a quantised model at a batch size, as the target's first convention places it: what
            the artifact will compute, in PyTorch.
        folder: checkpoints of an unfinished step; a killed build finds them again.
        record: told what belongs into the step's row of the manifest.
    """

    target: Target
    splits: Splits
    score: Score
    teachers: Callable[[], tuple[Model, ...]]
    measure: Callable[[Model], Profile | None]
    lower: Callable[[Model, int], nn.Module]
    seed: int
    progress: Progress
    folder: Path
    record: Callable[[Found], None] = _forget
