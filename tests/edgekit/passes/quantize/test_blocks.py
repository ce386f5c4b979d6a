"""Block reconstruction with QDrop: its limits, less error than the nearest codes, steps that are learned."""

import pytest
import torch
from torch import fx

from edgekit.nets.program import trace
from edgekit.passes.quantize.blocks import Learning, round_by_blocks
from edgekit.passes.quantize.pieces import cut
from edgekit.passes.quantize.simulate import written
from edgekit.passes.quantize.stream import Prefix, evaluate
from tests import nets
from tests.edgekit.passes.quantize.simulated import surroundings, task_of
from tests.edgekit.passes.quantize.test_adaround import error_of


@pytest.mark.parametrize("bias_correction", ["none", "analytic"])
def test_the_network_errs_less_than_with_the_nearest_codes(bias_correction: str) -> None:
    model = nets.model(nets.TINY_RESIDUAL)
    context, _ = surroundings(model, 64)
    task, table = task_of(model, context, weights="int3", bias_correction=bias_correction, rounding_iterations=200)
    assert error_of(task, round_by_blocks(task, table), None) < 0.7 * error_of(task, table, None)


def test_steps_of_a_blocks_activations_are_learned_and_ranges_follow_them() -> None:
    model = nets.model(nets.TINY_RESIDUAL)
    context, _ = surroundings(model)
    task, table = task_of(model, context, weights="int3", activations="int4", rounding_iterations=100)
    found = round_by_blocks(task, table)
    moved = {name for name in table.edges if found.edges[name].scale != table.edges[name].scale}
    program = trace(model)
    learned = [piece for piece in cut(program) if piece.layers]
    inside = {program.names[node] for piece in learned for node in piece.nodes} & set(written(program))
    assert moved
    assert moved <= inside
    for name in moved:
        before, after = table.edges[name], found.edges[name]
        assert after.zero_point == before.zero_point
        ratio = after.scale / before.scale
        assert 0.5 < ratio < 2
        assert after.high == pytest.approx(before.high * ratio)
    assert all(torch.equal(found.weights[n].scale, table.weights[n].scale) for n in table.weights)


def _block(keep: float) -> tuple[fx.Node, Learning, torch.Tensor, torch.Tensor]:
    """The last node of a block that is learned, with its values on float input: as learned, and in float."""
    model = nets.model(nets.TINY_RESIDUAL)
    context, _ = surroundings(model)
    task, table = task_of(model, context, weights="int4", activations="int4", bias_correction="none")
    prefix = Prefix.of(task)
    (piece,) = [piece for piece in cut(prefix.program) if len(piece.layers) > 1]
    learning = Learning(prefix, table, piece, keep)
    inputs = next(prefix.exact.values(piece.inputs, prefix.floating(table)))
    end = piece.nodes[-1]
    learning.take({name: choice.soft() for name, choice in learning.choices.items()})
    with torch.no_grad():
        learned = evaluate(learning, piece.nodes, inputs)[end]
        exact = evaluate(prefix.floating(table), piece.nodes, inputs)[end]
    return end, learning, learned, exact


def test_without_any_rounded_activation_the_soft_block_is_the_float_block() -> None:
    _, _, learned, exact = _block(0)
    torch.testing.assert_close(learned, exact, rtol=1e-4, atol=1e-5)


def test_with_all_of_them_rounded_every_value_is_on_its_grid() -> None:
    end, learning, learned, exact = _block(1)
    assert not torch.allclose(learned, exact, atol=1e-3)
    edge = learning._edges[end.name]
    codes = learned / edge.scale
    torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-3)
    assert len(codes.round().unique()) <= 16


def test_half_of_the_values_are_rounded_others_stay_as_they_are() -> None:
    _, learning, _, _ = _block(0.5)
    exact, rounded = torch.zeros(4, 500), torch.ones(4, 500)
    first, second = learning.drop(rounded, exact), learning.drop(rounded, exact)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert first.mean().item() == pytest.approx(0.5, abs=0.05)
    assert not torch.equal(first, second)
