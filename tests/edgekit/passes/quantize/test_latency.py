"""A layer alone is the layer of the network: in float, and with the network's own grids and codes."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import fx, nn

from edgekit.formats.conventions.convention import CONVENTIONS
from edgekit.formats.conventions.lowering import lower
from edgekit.nets.model import Model
from edgekit.nets.program import Program, trace
from edgekit.passes.quantize.latency import alone, layer_times, with_table
from edgekit.passes.quantize.sensitivity import measure_sensitivity
from edgekit.passes.quantize.simulate import round_to_grid
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec, OutputSpec
from tests import nets
from tests.edgekit.passes.quantize.simulated import surroundings, task_of


def values_of(program: Program, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    """What every activation is."""
    interpreter = fx.Interpreter(program.module, garbage_collect_values=False)
    with torch.no_grad():
        interpreter.run(inputs)
    return {name: interpreter.env[node] for node, name in program.names.items()}


@pytest.mark.parametrize(
    ("layer", "reads", "writes"),
    [
        ("depthwise/conv2d", "/relu", "/relu_1"),
        ("pointwise/conv2d", "/relu_1", "/relu_2"),
        ("linear/linear", "/flatten", "linear/linear"),
    ],
)
def test_a_layer_alone_computes_what_it_does_in_the_network(layer: str, reads: str, writes: str) -> None:
    model = nets.model(nets.TINY_CONV)
    program = trace(model)
    seen = values_of(program, *model.example(1, seed=2))
    single = alone(program, layer)
    assert single.inputs[0].shape == tuple(seen[reads].shape)
    assert single.outputs[0].shape == tuple(seen[writes].shape)
    torch.testing.assert_close(single.network(seen[reads])[0], seen[writes])


def test_tokens_of_one_sample_stay_together() -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.ReLU())
    source = ModelSource(factory="tests:tokens", inputs=(InputSpec(name="tokens", shape=(1, 3, 4)),))
    model = Model(network.eval(), source, (OutputSpec(name="output", shape=(1, 3, 5)),))
    single = alone(trace(model), "0/linear")
    (inputs,) = single.example()
    assert inputs.shape == (1, 3, 4)
    torch.testing.assert_close(single.network(inputs)[0], network(inputs))

    context, _ = surroundings(model)
    task, table = task_of(model, context)
    found = measure_sensitivity(task, table, ("int8",))
    placed = with_table(single, trace(model), "0/linear", table, found, "int8")
    grids = {row.tensor: row.scale[0] for row in lower(placed, CONVENTIONS["litert"]).tensors if row.role != "weight"}
    assert grids["input:input"] == table.edges["input:tokens"].scale


def test_a_quantised_layer_alone_has_the_networks_grids_and_codes() -> None:
    model = nets.model(nets.TINY_CONV)
    context, _ = surroundings(model)
    task, table = task_of(model, context)
    found = measure_sensitivity(task, table, ("int4", "int8"))
    program = trace(model)
    single = with_table(alone(program, "depthwise/conv2d"), program, "depthwise/conv2d", table, found, "int4")
    lowered = lower(single, CONVENTIONS["onnxruntime-x86-vnni"])
    assert lowered.in_float == ()
    (weight,) = (row for row in lowered.tensors if row.role == "weight")
    assert weight.scale == tuple(found.codes["int4"]["depthwise.weight"].scale.tolist())
    inputs = values_of(program, *model.example(1, seed=2))["/relu"]
    outputs = lowered.module(inputs)
    outputs = outputs if isinstance(outputs, torch.Tensor) else outputs[0]
    torch.testing.assert_close(outputs, round_to_grid(outputs, table.edges["/relu_1"]))


def test_layers_of_equal_shapes_are_measured_once() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Conv2d(2, 2, 3, padding=1))
    source = ModelSource(factory="tests:deep", inputs=(InputSpec(name="image", shape=(1, 2, 6, 6)),))
    model = Model(network.eval(), source, (OutputSpec(name="output", shape=(1, 2, 6, 6)),))
    context, _ = surroundings(model)
    asked: list[Model] = []

    def measure(single: Model) -> Any:
        asked.append(single)
        return SimpleNamespace(summary=SimpleNamespace(p50_ms=float(len(asked))))

    task, table = task_of(model, replace(context, measure=measure))
    found = measure_sensitivity(task, table, ("int8",))
    times = layer_times(task, table, found, ("float", "int8"))
    # the third has the shapes of the others, and no activation behind it
    assert times == ({"float": 1.0, "int8": 2.0}, {"float": 1.0, "int8": 2.0}, {"float": 3.0, "int8": 4.0})
    assert [single.table is None for single in asked] == [True, False] * 2
