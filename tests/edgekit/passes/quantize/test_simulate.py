"""A simulated network against its own layers, with biases that take back what rounding shifts."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, fx

from edgekit.nets.graph import tensor_of
from edgekit.nets.program import Program, trace
from edgekit.nets.quantisation import QuantisationTable
from edgekit.passes.quantize.simulate import Simulation, weighted, written
from tests import nets
from tests.edgekit.formats.quantised import quantised
from tests.edgekit.formats.transformers import tiny_vit


class _Recorder(Simulation):
    """Keeps the value of every node."""

    def run_node(self, n: fx.Node) -> Tensor:
        value: Tensor = super().run_node(n)
        self.values[n] = value
        return value

    def values_of(self, inputs: Tensor) -> dict[fx.Node, Tensor]:
        self.values: dict[fx.Node, Tensor] = {}
        self.run(inputs)
        return self.values


def _network(**options: object) -> tuple[Program, QuantisationTable, Tensor]:
    model = quantised(nets.TINY_CONV, weights="int4", **options)
    assert model.table is not None
    return trace(model, 4), model.table, model.example(4, seed=1)[0]


def _bias_of(program: Program, table: QuantisationTable, inputs: Tensor, name: str, **given: object) -> Tensor:
    """What is added to a layer's outputs beside the products: its bias as simulated, constant over samples."""
    node = weighted(program)[name]
    simulation = _Recorder(program, table, **given)  # type: ignore[arg-type]
    values = simulation.values_of(inputs)
    (source, *_) = node.all_input_nodes
    bare = node.target(  # type: ignore[operator]
        values[source],
        simulation.weights.get(program.weight_name(node), tensor_of(program.module, node.args[1])),
        None,
        *node.args[3:],  # type: ignore[arg-type]
    )
    return values[node] - bare


def test_a_bias_takes_back_the_mean_of_its_inputs_times_the_error_of_its_weight() -> None:
    program, table, inputs = _network()
    node = weighted(program)["pointwise/conv2d"]
    weight, bias = (tensor_of(program.module, arg) for arg in node.args[1:3])  # type: ignore[arg-type]
    error = (table.weights["pointwise.weight"].values() - weight).flatten(1)
    expected = bias - error @ table.means["pointwise/conv2d"]
    found = _bias_of(program, table, inputs, "pointwise/conv2d", edges=())
    torch.testing.assert_close(found.mean((0, 2, 3)), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, bias, atol=1e-3)  # or the test could not tell


def test_a_measured_shift_replaces_what_the_mean_would_give() -> None:
    program, table, inputs = _network()
    bias = tensor_of(program.module, weighted(program)["linear/linear"].args[2])  # type: ignore[arg-type]
    table = replace(table, shifts={"linear/linear": torch.tensor([1.0, -2.0, 0.5])})
    found = _bias_of(program, table, inputs, "linear/linear", edges=())
    torch.testing.assert_close(found.mean(0), bias - torch.tensor([1.0, -2.0, 0.5]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["pointwise/conv2d", "linear/linear"])
def test_the_bias_of_a_layer_whose_weight_stays_float_stays_as_it_is(name: str) -> None:
    program, table, inputs = _network()
    table = replace(table, shifts={"linear/linear": torch.ones(3)})
    bias = tensor_of(program.module, weighted(program)[name].args[2])  # type: ignore[arg-type]
    found = _bias_of(program, table, inputs, name, edges=(), weights=())
    torch.testing.assert_close(found.movedim(1, -1).flatten(0, -2).mean(0), bias, rtol=1e-4, atol=1e-5)


def test_movement_that_tracing_made_is_not_rounded_again() -> None:
    program = trace(tiny_vit(), 2)
    made = [name for node, name in program.names.items() if program.edge_name(node) != name]
    assert made
    assert not {*made} & {*written(program)}
