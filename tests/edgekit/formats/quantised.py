"""Quantised tiny networks, shared by the tests of formats."""

from __future__ import annotations

from pathlib import Path

import torch

from edgekit.data.metrics import METRICS
from edgekit.data.samples import Samples, Splits
from edgekit.data.score import Score
from edgekit.errors import PassError
from edgekit.formats.conventions.convention import CONVENTIONS
from edgekit.formats.conventions.lowering import lower
from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.load import load_target
from edgekit.schema.passes import QuantizeOptions
from tests import nets


def context(model: Model, samples: int = 40) -> Context:
    (inputs,) = model.example(samples, seed=3)
    labels = torch.zeros(samples, dtype=torch.int64)

    def no_teacher() -> tuple[Model, ...]:
        raise PassError("no teacher", "test", "none needed")

    return Context(
        target=load_target("cpu-x86-64").target,
        splits=Splits(None, Samples((inputs,), labels), None, "digest"),
        score=Score(METRICS["top1"]),
        teachers=no_teacher,
        measure=lambda model: None,
        lower=lambda model, batch: lower(model, CONVENTIONS["onnxruntime-x86-vnni"], batch).module,
        seed=0,
        progress=lambda done, total, note="": None,
        folder=Path(),
    )


def quantised(counted: nets.Counted, **options: object) -> Model:
    model = nets.model(counted)
    return quantize(model, QuantizeOptions(**options), context(model))  # type: ignore[arg-type]
