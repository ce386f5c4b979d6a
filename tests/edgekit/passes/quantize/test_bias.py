"""Empirical bias correction: afterwards no layer's outputs are shifted, on the samples that it was measured with."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, fx

from edgekit.nets.program import Program, trace
from edgekit.nets.quantisation import Kept, QuantisationTable
from edgekit.passes.quantize.bias import correct_biases
from edgekit.passes.quantize.quantize import quantize
from edgekit.passes.quantize.simulate import Simulation, weighted, written
from edgekit.passes.quantize.task import Task
from edgekit.schema.passes import QuantizeOptions
from tests import nets
from tests.edgekit.passes.quantize.simulated import surroundings, task_of


class _Means(Simulation):
    """The mean of every channel of some nodes, before their own grid."""

    def on_grid(self, node: fx.Node, value: Tensor, edge: object) -> Tensor:
        self.before[node] = value
        return super().on_grid(node, value, edge)  # type: ignore[arg-type]

    def run_node(self, n: fx.Node) -> Tensor:
        value: Tensor = super().run_node(n)
        self.before.setdefault(n, value)
        return value

    def means(self, inputs: Tensor, nodes: dict[str, fx.Node]) -> dict[str, Tensor]:
        self.before: dict[fx.Node, Tensor] = {}
        self.run(inputs)
        return {name: self.before[node].transpose(0, 1).flatten(1).mean(1) for name, node in nodes.items()}


def _network(**options: object) -> tuple[Task, QuantisationTable, Program, Tensor]:
    model = nets.model(nets.TINY_CONV)
    context, _ = surroundings(model)
    task, table = task_of(model, context, weights="int4", **options)
    return task, table, trace(model, 40), task.samples.inputs[0][:40]


@pytest.mark.parametrize("before", ["none", "analytic"])
def test_no_channel_of_any_layer_is_shifted_afterwards(before: str) -> None:
    task, table, program, inputs = _network(bias_correction=before)
    found = correct_biases(task, table)
    layers = weighted(program)
    wanted = _Means(program, table, (), ()).means(inputs, layers)
    for each, is_zero in ((table, False), (found, True)):
        made = _Means(program, each, written(program)).means(inputs, layers)
        shift = max(float((made[name] - wanted[name]).abs().max()) for name in layers)
        assert (shift < 1e-5) == is_zero


def test_only_shifts_change() -> None:
    task, table, _, _ = _network()
    found = correct_biases(task, table)
    assert (found.edges, found.kept, found.means) == (table.edges, table.kept, table.means)
    assert all(torch.equal(found.weights[name].codes, table.weights[name].codes) for name in table.weights)
    assert {name: len(shift) for name, shift in found.shifts.items()} == {
        "conv/conv2d": 4,
        "depthwise/conv2d": 4,
        "pointwise/conv2d": 6,
        "linear/linear": 3,
    }


def test_a_layer_in_float_is_left_alone() -> None:
    task, table, _, _ = _network()
    kept = replace(table, kept={"pointwise/conv2d": Kept("float", "for the test")})
    assert "pointwise/conv2d" not in correct_biases(task, kept).shifts


def test_the_option_is_carried_out() -> None:
    model = nets.model(nets.TINY_CONV)
    context, _ = surroundings(model)
    table = quantize(model, QuantizeOptions(weights="int4", bias_correction="empirical"), context).table
    assert table is not None
    assert table.shifts.keys() == weighted(trace(model)).keys()
