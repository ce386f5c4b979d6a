import pytest
import torch
from torch import Tensor, nn

from edgekit.nets.load import find_outputs
from edgekit.nets.model import Model
from edgekit.nets.program import Program, trace
from edgekit.nets.recurrent import Recurrent, State, step_model
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec
from tests import nets


def _operators(program: Program) -> list[tuple[str, str]]:
    return [(name, str(node.target)) for node, name in program.names.items() if node.op == "call_function"]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_unrolled_program_is_the_loop(cell):
    model = nets.recurrent(cell, steps=4)
    program = trace(model, 3)
    (x,) = model.example(3, seed=5)
    with torch.no_grad():
        (made,) = program.module(x)
        torch.testing.assert_close(made, model.network(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("cell", "in_a_step", "left_out"), [("lstm", 16, 4), ("gru", 15, 5)])
def test_every_step_has_the_operators_of_the_cell_under_its_names(cell, in_a_step, left_out):
    # lstm: 2 layers, sum, 4 slices, 3 sigmoids, 2 tanh, 3 products, sum
    # gru: 4 layers, 2 sums, sigmoid, 2 slices, tanh, 3 products, difference, sum
    # before the first step the state is zero: layers and products of it fall away, and the gates of these
    model = nets.recurrent(cell, steps=3)
    whole, step = trace(model), trace(step_model(model))
    cells = [item for item in _operators(step) if item[0] != "fc/linear"]
    assert len(cells) == in_a_step
    found = [item for item in _operators(whole) if item[0] not in ("input:x", "fc/linear")]
    assert len(found) == 3 * in_a_step - left_out
    assert set(found) == set(cells)
    assert found[-in_a_step:] == cells
    assert sum(name == "fc/linear" for name, _ in _operators(whole)) == 1


def test_weights_are_stored_once_for_all_steps():
    model = nets.recurrent("gru", steps=5)
    whole, step = trace(model), trace(step_model(model))
    own = {name: value.shape for name, value in whole.module.named_buffers() if not name.startswith("initial.")}
    assert own == {name: value.shape for name, value in step.module.named_buffers()}


def test_a_state_has_the_name_of_what_makes_the_next_one():
    program = trace(step_model(nets.recurrent("lstm", steps=3)))
    names = [name for node, name in program.names.items() if node.op == "placeholder"]
    assert names == ["input:x", "lstm/mul_2", "lstm/add_1"]


class Biased(Recurrent):
    """A plain recurrent network whose product with the state has a bias: not zero before the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.input, self.state, self.fc = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 2)

    @property
    def states(self) -> tuple[State, ...]:
        return (State("h", 5),)

    def step(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return ((self.input(x) + self.state(state[0])).tanh(),)

    def head(self, *state: Tensor) -> Tensor:
        return self.fc(state[0])


def biased() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Biased().eval()


def test_what_the_first_states_make_of_a_bias_is_stored():
    source = ModelSource(
        factory="tests.edgekit.nets.test_unroll:biased",
        inputs=(InputSpec(name="x", shape=(1, 3, 3), layout="NTC"),),
    )
    network = biased()
    model = Model(network, source, find_outputs(network, source))
    program = trace(model, 2)
    (stored,) = (node for node in program.names if node.op == "get_attr")
    assert program.names[stored] == "state/linear"
    bias = network.state.bias.detach().expand(2, 5)
    torch.testing.assert_close(program.module.get_buffer(str(stored.target)), bias)
    (x,) = model.example(2)
    with torch.no_grad():
        torch.testing.assert_close(program.module(x)[0], network(x), rtol=1e-5, atol=1e-6)
