"""AdaRound over a network: its invariants, less error than the nearest codes, and codes alone that change."""

import pytest
import torch

from edgekit.nets.graph import tensor_of
from edgekit.nets.program import trace
from edgekit.nets.quantisation import QuantisationTable
from edgekit.passes.quantize.adaround import round_by_adaround
from edgekit.passes.quantize.learning import Choice, learn
from edgekit.passes.quantize.quantize import quantize
from edgekit.passes.quantize.simulate import Simulation, weighted
from edgekit.passes.quantize.stream import Stream
from edgekit.passes.quantize.task import Task
from edgekit.schema.passes import QuantizeOptions
from tests import nets
from tests.edgekit.passes.quantize.simulated import surroundings, task_of


def error_of(task: Task, table: QuantisationTable, edges: tuple[str, ...] | None = ()) -> float:
    """Mean squared error of the last convolution's outputs behind its activation function; none: all grids."""
    program = trace(task.model, 40)
    node = program.node("/relu_2")
    inputs = task.samples.inputs[0][:40]
    values = []
    for simulation in (Simulation(program, table, (), ()), Simulation(program, table, edges)):
        (found,) = Stream(program, [(inputs,)]).values([node], simulation)
        values.append(found[node])
    return float((values[1] - values[0]).square().mean())


@pytest.mark.parametrize("bias_correction", ["none", "analytic"])
@pytest.mark.parametrize("counted", [nets.TINY_RESIDUAL, nets.TINY_CONV], ids=["residual", "depthwise"])
def test_the_network_errs_less_than_with_the_nearest_codes(counted: nets.Counted, bias_correction: str) -> None:
    model = nets.model(counted)
    context, _ = surroundings(model, 64)
    task, table = task_of(model, context, weights="int3", bias_correction=bias_correction, rounding_iterations=200)
    assert error_of(task, round_by_adaround(task, table)) < 0.8 * error_of(task, table)


def test_each_weight_takes_one_of_its_two_points_and_scales_stay() -> None:
    model = nets.model(nets.TINY_RESIDUAL)
    context, _ = surroundings(model)
    task, table = task_of(model, context, weights="int4", rounding_iterations=100)
    found = round_by_adaround(task, table)
    program = trace(model)
    assert found.edges == table.edges
    moved = 0
    for node in weighted(program).values():
        name = program.weight_name(node)
        weight = tensor_of(program.module, node.args[1])  # type: ignore[arg-type]
        codes = found.weights[name]
        assert torch.equal(codes.scale, table.weights[name].scale)
        assert ((codes.values() - weight).abs() <= codes.spread() * (1 + 1e-5)).all()
        moved += int((codes.codes != table.weights[name].codes).sum())
    assert moved > 0


def test_minifloat_weights_take_a_neighbour_on_their_own_grid() -> None:
    model = nets.model(nets.TINY_RESIDUAL)
    context, _ = surroundings(model)
    options = {"weights": "e2m1", "activations": "float", "bias_correction": "none", "rounding_iterations": 150}
    tables = [
        quantize(model, QuantizeOptions(**options, rounding=rounding), context).table  # type: ignore[arg-type]
        for rounding in ("nearest", "adaround")
    ]
    task, _ = task_of(model, context, **options)
    assert tables[0] is not None
    assert tables[1] is not None
    assert error_of(task, tables[1]) < error_of(task, tables[0])


def test_the_soft_weight_is_the_weight_before_anything_is_learned() -> None:
    model = nets.model(nets.TINY_CONV)
    context, _ = surroundings(model)
    _, table = task_of(model, context, weights="int4")
    program = trace(model)
    node = weighted(program)["pointwise/conv2d"]
    weight = tensor_of(program.module, node.args[1]).detach()  # type: ignore[arg-type]
    choice = Choice.of(weight, table.weights["pointwise.weight"])
    torch.testing.assert_close(choice.soft(), weight)
    assert torch.equal(choice.codes().codes, table.weights["pointwise.weight"].codes)


def test_learning_ends_with_nearly_every_weight_decided() -> None:
    model = nets.model(nets.TINY_CONV)
    context, _ = surroundings(model)
    _, table = task_of(model, context, weights="int4")
    program = trace(model)
    node = weighted(program)["pointwise/conv2d"]
    weight = tensor_of(program.module, node.args[1]).detach()  # type: ignore[arg-type]
    choice = Choice.of(weight, table.weights["pointwise.weight"])

    def error(step: int) -> torch.Tensor:
        return (choice.soft() - weight).sum(1).square().mean()  # the inputs are all alike: errors may cancel

    at_nearest = float((choice.nearest() - weight).detach().sum(1).square().mean())
    learn([choice], error, at_nearest, 500)
    share = choice.share()[choice.free].detach()
    assert ((share < 0.05) | (share > 0.95)).float().mean() > 0.95
    assert float((choice.hard() - weight).detach().sum(1).square().mean()) < at_nearest


def test_what_is_drawn_at_random_is_drawn_from_the_seed() -> None:
    model = nets.model(nets.TINY_CONV)
    context, _ = surroundings(model)
    task, table = task_of(model, context, weights="int4", rounding_iterations=50)
    first, second = round_by_adaround(task, table), round_by_adaround(task, table)
    assert all(torch.equal(first.weights[name].codes, second.weights[name].codes) for name in first.weights)
