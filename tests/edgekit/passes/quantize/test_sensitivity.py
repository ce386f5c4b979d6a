"""Noise against what it is by definition, and that it adds up."""

from dataclasses import replace

import pytest
import torch
from torch import fx

from edgekit.nets.graph import set_tensor
from edgekit.nets.program import trace
from edgekit.nets.quantisation import Kept
from edgekit.passes.quantize.sensitivity import assign, measure_sensitivity, noise_of, outputs_of
from edgekit.passes.quantize.simulate import Simulation
from tests import nets
from tests.edgekit.passes.quantize.simulated import surroundings, task_of


def test_noise_is_the_power_of_the_error_over_that_of_the_signal_summed_over_outputs() -> None:
    reference = (torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0]]))
    found = (torch.tensor([[3.0, 4.5]]), torch.tensor([[1.0]]))
    assert noise_of(found, reference) == pytest.approx(0.25 / 25 + 1 / 4)


def test_a_weights_noise_is_that_of_the_network_with_this_weight_alone_rounded() -> None:
    model = nets.model(nets.TINY_CONV)
    context, _ = surroundings(model)
    task, table = task_of(model, context, weights="int4", bias_correction="none")
    found = measure_sensitivity(task, table, ("int4", "int8", "float"))
    program = trace(model, 32)
    inputs = task.samples.inputs[0][:32]
    reference = program.module(inputs)
    set_tensor(program.module, "pointwise.weight", table.weights["pointwise.weight"].values())
    rounded = program.module(inputs)
    index = [kernel.name for kernel in found.anatomy.kernels].index("pointwise/conv2d")
    assert found.weights[index]["int4"] == pytest.approx(noise_of([rounded], [reference]), rel=1e-4)
    assert found.weights[index]["int8"] < found.weights[index]["int4"] / 50  # 16 times finer: 256 times less power
    assert "float" not in found.weights[index]


def test_noise_of_single_parts_adds_up_to_that_of_the_whole() -> None:
    model = nets.model(nets.TINY_RESIDUAL)
    context, _ = surroundings(model)
    task, table = task_of(model, context)
    found = measure_sensitivity(task, table, ("int8",))
    summed = sum(noise.get("int8", 0.0) for noise in found.weights) + sum(found.wires)
    program = trace(model, 32)
    inputs = task.samples.inputs[0][:32]
    reference = outputs_of(fx.Interpreter(program.module), [inputs], 32)
    whole = noise_of(outputs_of(Simulation(program, table), [inputs], 32), reference)
    assert summed == pytest.approx(whole, rel=0.5)
    assert min(found.wires) > 0


def test_codes_that_the_table_has_are_measured_as_they_are() -> None:
    model = nets.model(nets.TINY_CONV)
    context, _ = surroundings(model)
    task, table = task_of(model, context, weights="int4")
    rounded = table
    worse = replace(table.weights["linear.weight"], codes=table.weights["linear.weight"].codes * 0)
    table = replace(table, weights={**table.weights, "linear.weight": worse})
    found = measure_sensitivity(task, table, ("int4", "int8"))
    last = found.anatomy.kernels[-1]
    assert last.weight == "linear.weight"
    assert found.weights[-1]["int4"] > 20 * measure_sensitivity(task, rounded, ("int4",)).weights[-1]["int4"]
    assert found.codes["int8"]["linear.weight"].number == "int8"


def test_assigned_formats_change_codes_drop_what_was_measured_with_others_and_say_why() -> None:
    model = nets.model(nets.TINY_CONV)
    context, _ = surroundings(model)
    task, table = task_of(model, context, weights="int4")
    found = measure_sensitivity(task, table, ("int4", "int8", "float"))
    layers = [kernel.name for kernel in found.anatomy.kernels if kernel.weight]
    table = replace(table, shifts={layer: torch.ones(3) for layer in layers})
    index = {kernel.name: i for i, kernel in enumerate(found.anatomy.kernels)}
    conv, depthwise, pointwise, linear = (index[layer] for layer in layers)
    made = assign(
        table, found, {conv: "int8", depthwise: "float", pointwise: "int4"}, {conv: "worth it", depthwise: "needed"}
    )
    assert made.weights["conv.weight"].number == "int8"
    assert "depthwise.weight" not in made.weights
    assert made.weights["pointwise.weight"] is table.weights["pointwise.weight"]
    assert set(made.shifts) == {found.anatomy.kernels[i].name for i in (pointwise, linear)}
    assert made.kept == {"conv/conv2d": Kept("int8", "worth it"), "depthwise/conv2d": Kept("float", "needed")}
    assert table.kept == {}
