"""What a benchmark hands to the passes that it runs, in place of a build."""

from __future__ import annotations

from pathlib import Path

from machine import local_convention

from edgekit.data.metrics import METRICS
from edgekit.data.samples import Splits
from edgekit.data.score import Score
from edgekit.errors import PassError
from edgekit.formats.conventions.convention import find_convention
from edgekit.formats.conventions.lowering import lower
from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.schema.load import load_target

TARGET = "cpu-x86-64"


def context_of(splits: Splits, format_name: str = "onnx", seed: int = 0, folder: Path = Path()) -> Context:
    """The context of a pass on this machine's convention for a format: nothing is measured, nobody teaches."""
    convention = find_convention(local_convention(format_name))
    return Context(
        target=load_target(TARGET).target,
        splits=splits,
        score=Score(METRICS["top1"]),
        teachers=_no_teacher,
        measure=lambda _: None,
        lower=lambda model, batch: lower(model, convention, batch).module,
        seed=seed,
        progress=lambda done, total, note="": None,
        folder=folder or Path(),
    )


def _no_teacher() -> tuple[Model, ...]:
    raise PassError("no teacher is trained here", "benchmarks/surroundings.py", "name steps that need none")
