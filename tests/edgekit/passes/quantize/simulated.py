"""Surroundings in which a quantised network is simulated, with float where all of an activation's ends are in float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.data.metrics import Metric
from edgekit.data.samples import Samples
from edgekit.data.score import Score
from edgekit.nets.model import Model
from edgekit.nets.program import trace
from edgekit.nets.quantisation import QuantisationTable
from edgekit.passes.context import Context
from edgekit.passes.quantize.kernels import dissect
from edgekit.passes.quantize.quantize import quantize
from edgekit.passes.quantize.simulate import Simulation
from edgekit.passes.quantize.task import Task
from edgekit.schema.passes import QuantizeOptions
from tests.edgekit.formats.quantised import context


class Simulated(nn.Module):
    """What `context.lower` gives, without a convention."""

    def __init__(self, model: Model, batch: int) -> None:
        super().__init__()
        assert model.table is not None
        program = trace(model, batch)
        anatomy = dissect(program)
        floats = {name for name, kept in model.table.kept.items() if kept.number == "float"}
        rounded = [i for i, kernel in enumerate(anatomy.kernels) if not floats.issuperset(kernel.layers)]
        edges = [wire.name for wire in anatomy.wires if not wire.ends.isdisjoint(rounded)]
        self._simulation = Simulation(program, replace(model.table, kept={}), edges)

    def forward(self, inputs: Tensor) -> Any:
        return self._simulation.run(inputs)


def nearness(model: Model, inputs: Tensor) -> Callable[[Any, Any], float]:
    """A metric without steps: 1 for the outputs of the float network, less the power of the error of others."""
    wanted = model.network(inputs).detach().numpy()
    rows = {row.tobytes(): i for i, row in enumerate(wanted)}
    assert len(rows) == len(inputs)
    power = float((wanted**2).mean())

    def metric(outputs: Any, labels: Any) -> float:
        return 1.0 - float(((outputs - wanted[labels]) ** 2).mean()) / power

    return metric


def surroundings(model: Model, samples: int = 60) -> tuple[Context, list[Any]]:
    """A context whose selection split is labelled by row number, as `nearness` wants it; and what is recorded."""
    (inputs,) = model.example(samples, seed=5)
    found = context(model)
    records: list[Any] = []
    found = replace(
        found,
        splits=replace(found.splits, selection=Samples((inputs,), torch.arange(samples))),
        score=Score(Metric(nearness(model, inputs), is_share=False)),
        lower=Simulated,
        record=records.append,
    )
    return found, records


def task_of(model: Model, surroundings: Context, **options: Any) -> tuple[Task, QuantisationTable]:
    """A task with the table that its options give before anybody raises anything."""
    written = QuantizeOptions(**options)
    plain = written.model_copy(update={"mode": "fixed", "max_drop": None, "budget": None})
    table = quantize(model, plain, surroundings).table
    assert table is not None
    return Task(model, surroundings.splits.calibration, written, surroundings), table
