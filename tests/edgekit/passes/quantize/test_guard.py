"""The guard raises what it must and no more, says when that is not enough, and needs few tries."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.nets.program import trace
from edgekit.nets.quantisation import Kept, QuantisationTable
from edgekit.passes.quantize.guard import guard
from edgekit.passes.quantize.kernels import dissect
from tests import nets
from tests.edgekit.passes.quantize.simulated import Simulated, surroundings, task_of


def drop_of(model: Model, table: QuantisationTable, context) -> float:
    selection = context.splits.selection
    program = Simulated(replace(model, table=table), len(selection))
    with torch.no_grad():
        outputs = program(selection.inputs[0]).numpy()
    return 1.0 - context.score.metric(outputs, selection.labels.numpy())


def test_what_holds_is_left_as_it_is() -> None:
    model = nets.model(nets.TINY_CONV)
    context, records = surroundings(model)
    task, table = task_of(model, context, mode="auto", max_drop=0.01)
    records.clear()
    assert guard(task, table) is table
    (row,) = records
    assert (row.holds, row.evaluations, row.samples, row.float_metric) == (True, 1, 60, 1.0)
    assert row.drop == pytest.approx(drop_of(model, table, context))
    assert row.metric == row.asked_metric
    assert row.drop_low <= row.drop <= row.drop_high


@pytest.mark.parametrize("max_drop", [1e-3, 1e-4, 4e-6, 0.0])
def test_the_bound_holds_and_nothing_is_raised_that_it_does_not_need(max_drop: float) -> None:
    model = nets.model(nets.TINY_RESIDUAL)
    context, records = surroundings(model)
    task, table = task_of(model, context, weights="int4", mode="auto", max_drop=max_drop)
    found = guard(task, table)
    row = records[-1]
    assert row.holds
    assert row.drop == pytest.approx(drop_of(model, found, context), abs=1e-9)
    assert row.drop <= max_drop < 1 - row.asked_metric
    assert row.evaluations <= 20
    kernels = dissect(trace(model)).kernels
    raised = [kernel for kernel in kernels if kernel.name in found.kept]
    assert raised
    for kernel in raised:  # each alone, back to what was asked for
        weights = dict(found.weights)
        if kernel.weight is not None:
            weights[kernel.weight] = table.weights[kernel.weight]
        kept = {layer: why for layer, why in found.kept.items() if layer not in kernel.layers}
        assert drop_of(model, replace(found, weights=weights, kept=kept), context) > max_drop


def test_an_int4_layer_is_raised_to_int8_before_it_is_kept_in_float() -> None:
    model = nets.model(nets.TINY_RESIDUAL)
    context, _ = surroundings(model)
    task, table = task_of(model, context, weights="int4", mode="auto", max_drop=1e-4)
    found = guard(task, table)
    assert {kept.number for kept in found.kept.values()} == {"int8"}
    assert all("max_drop 0.0001" in kept.reason and "%" in kept.reason for kept in found.kept.values())


def test_a_layer_that_breaks_alone_is_the_one_that_is_raised() -> None:
    model = nets.model(nets.TINY_CONV)
    context, records = surroundings(model)
    task, table = task_of(model, context, mode="auto", max_drop=1e-4)
    broken = replace(table.weights["pointwise.weight"], codes=table.weights["pointwise.weight"].codes * 0)
    found = guard(task, replace(table, weights={**table.weights, "pointwise.weight": broken}))
    assert {layer: kept.number for layer, kept in found.kept.items()} == {"pointwise/conv2d": "float"}
    assert "pointwise.weight" not in found.weights
    assert records[-1].drop <= 1e-4


class _Offset(nn.Module):
    """An error that no precision takes away."""

    def __init__(self, model: Model, batch: int) -> None:
        super().__init__()
        self.program = Simulated(model, batch)

    def forward(self, inputs: Tensor) -> tuple[Tensor]:
        return (self.program(inputs) + 1.0,)


def test_a_bound_that_cannot_hold_leaves_everything_raised_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    model = nets.model(nets.TINY_CONV)
    context, records = surroundings(model)
    context = replace(context, lower=_Offset)
    task, table = task_of(model, context, mode="auto", max_drop=0.01)
    found = guard(task, table)
    assert not records[-1].holds
    assert records[-1].drop > 0.01
    assert found.weights == {}
    assert len(found.kept) == len(dissect(trace(model)).kernels)
    assert "even with everything raised" in caplog.text


def test_without_a_selection_split_there_is_nothing_to_judge_by() -> None:
    model = nets.model(nets.TINY_CONV)
    context, _ = surroundings(model)
    context = replace(context, splits=replace(context.splits, selection=None))
    task, table = task_of(model, context, mode="auto")
    with pytest.raises(PassError) as raised:
        guard(task, table)
    assert "selection" in raised.value.what


def test_a_layer_that_was_kept_in_float_before_stays_there() -> None:
    model = nets.model(nets.TINY_CONV)
    context, records = surroundings(model)
    task, table = task_of(model, context, weights="int4", mode="auto", max_drop=1e-4)
    weights = {name: codes for name, codes in table.weights.items() if name != "conv.weight"}
    found = guard(task, replace(table, weights=weights, kept={"conv/conv2d": Kept("float", "mine")}))
    assert found.kept["conv/conv2d"] == Kept("float", "mine")
    assert "conv.weight" not in found.weights
    assert records[-1].holds
