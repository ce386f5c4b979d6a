from dataclasses import replace

import pytest
import torch

from edgekit.data.samples import Samples
from edgekit.nets.count import count_params
from edgekit.nets.program import trace
from edgekit.nets.quantisation import EdgeRange, QuantisationTable
from edgekit.nets.saved import state_bytes
from edgekit.passes.quantize.adaround import round_by_adaround
from edgekit.passes.quantize.blocks import round_by_blocks
from edgekit.passes.quantize.gptq import round_by_gptq
from edgekit.passes.quantize.recurrent import keep_accumulators
from edgekit.passes.quantize.simulate import Simulation, every_layer, simulate, weighted
from edgekit.passes.quantize.task import Improve, Task
from tests import nets
from tests.edgekit.passes.quantize.simulated import surroundings, task_of

EDGES = {"input:x": EdgeRange(-1.0, 1.0, 2 / 255, 0)}


def test_what_makes_and_reads_the_cell_state_of_an_lstm_stays_in_float():
    table = keep_accumulators(nets.recurrent("lstm", steps=2), QuantisationTable(EDGES, {}))
    # f * c, i * g, their sum, and tanh(c); o * tanh(c) is the other state, and rounded
    assert set(table.kept) == {"lstm/mul", "lstm/mul_1", "lstm/add_1", "lstm/tanh_1"}
    assert {kept.number for kept in table.kept.values()} == {"float"}
    assert all("state c" in kept.reason for kept in table.kept.values())


def test_a_state_that_is_a_mean_of_itself_and_what_is_new_is_rounded():
    table = QuantisationTable(EDGES, {})
    assert keep_accumulators(nets.recurrent("gru", steps=2), table).kept == {}


def test_sixteen_bits_and_float_activations_are_enough():
    for table in (QuantisationTable(EDGES, {}, activations="int16"), QuantisationTable({}, {}, activations="float")):
        assert keep_accumulators(nets.recurrent("lstm", steps=2), table) is table
    assert keep_accumulators(nets.model(nets.TINY_CONV), QuantisationTable(EDGES, {})).kept == {}


def _task(cell: str) -> tuple[Task, QuantisationTable]:
    """Sequences of five steps that end in silence, so that the last step alone tells nothing of the input's weight."""
    model = nets.recurrent(cell, steps=5)
    (inputs,) = model.example(64, seed=5)
    inputs[:, -1] = 0
    context, _ = surroundings(model, 64)
    task, table = task_of(model, context, weights="int3", rounding_iterations=60)
    samples = Samples((inputs,), torch.zeros(64, dtype=torch.int64))
    return replace(task, samples=samples), table


def _error(task: Task, table: QuantisationTable) -> float:
    """Mean squared error of the answers with the weights' codes alone."""
    program = trace(task.model, 64)
    found = simulate(Simulation(program, table, ()), task.samples.inputs[0], 64)
    with torch.no_grad():
        return float((found - task.model.network(task.samples.inputs[0])).square().mean())


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_biases_take_back_the_mean_shift_at_every_step(cell):
    task, table = _task(cell)
    program = trace(task.model, 64)
    shifts = Simulation(program, table).shifts
    for name, node in weighted(program).items():
        steps = [own.name for called, own in every_layer(program) if called == name]
        assert len(steps) == (1 if name == "fc/linear" else 5 if len(node.args) > 2 else 4)  # W h is 0 at the first
        found = [shifts.get(step) for step in steps]
        if len(node.args) > 2:
            assert all(torch.equal(shift, found[0]) for shift in found)
            assert found[0].any()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("round_weights", [round_by_gptq, round_by_adaround, round_by_blocks])
def test_weights_are_rounded_by_what_all_steps_give_them(cell, round_weights: Improve):
    task, table = _task(cell)
    found = round_weights(task, table)
    assert _error(task, found) < 0.8 * _error(task, table)
    changed = [name for name in table.weights if not torch.equal(found.weights[name].codes, table.weights[name].codes)]
    assert len(changed) >= 2


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_weights_that_are_parts_of_stored_ones_count_with_their_bits(cell):
    task, table = _task(cell)
    coded = sum(weight.codes.numel() for weight in table.weights.values())
    scales = sum(weight.scale.numel() for weight in table.weights.values())
    floats = count_params(task.model.network) - coded  # biases alone
    assert floats == (44 if cell == "lstm" else 19)
    assert state_bytes(replace(task.model, table=table)) == 4 * (floats + scales) + sum(
        -(-weight.codes.numel() * 3 // 8) for weight in table.weights.values()
    )
