"""GPTQ over a network: second moments by hand, less error than the nearest codes, and codes alone that change."""

from dataclasses import replace

import pytest
import torch

from edgekit.nets.program import trace
from edgekit.passes.quantize.gptq import round_by_gptq, second_moments
from edgekit.passes.quantize.quantize import quantize
from edgekit.passes.quantize.simulate import weighted
from edgekit.schema.passes import QuantizeOptions
from tests import nets
from tests.edgekit.passes.quantize.simulated import surroundings, task_of
from tests.edgekit.passes.quantize.test_adaround import error_of


def test_second_moments_of_a_linear_layer_are_the_sum_of_outer_products() -> None:
    program = trace(nets.model(nets.TINY_CONV), 4)
    node = weighted(program)["linear/linear"]
    inputs = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    shape = torch.Size((3, 6))
    found = second_moments(node, shape, [inputs[:1], inputs[1:]], None)
    torch.testing.assert_close(found, (inputs.T @ inputs).double()[None])
    centred = second_moments(node, shape, [inputs], inputs.mean(0))
    wanted = torch.cov(inputs.T.double(), correction=0)[None] * 4
    torch.testing.assert_close(centred, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias_correction", ["none", "analytic"])
@pytest.mark.parametrize("weights", ["int4", "int3"])
def test_the_network_errs_less_than_with_the_nearest_codes(weights: str, bias_correction: str) -> None:
    model = nets.model(nets.TINY_RESIDUAL)
    context, _ = surroundings(model, 64)
    task, table = task_of(model, context, weights=weights, bias_correction=bias_correction)
    assert error_of(task, round_by_gptq(task, table)) < 0.8 * error_of(task, table)


def test_only_codes_change_and_only_those_of_weights_that_count() -> None:
    model = nets.model(nets.TINY_RESIDUAL)
    context, _ = surroundings(model)
    task, table = task_of(model, context, weights="int4")
    found = round_by_gptq(task, table)
    assert found.edges == table.edges
    assert found.weights.keys() == table.weights.keys()
    for name, codes in found.weights.items():
        torch.testing.assert_close(codes.scale, table.weights[name].scale, rtol=0, atol=0)
        assert codes.codes.abs().max() <= 7
        assert codes.codes.dtype == torch.int8
    assert any(not torch.equal(found.weights[name].codes, table.weights[name].codes) for name in found.weights)


@pytest.mark.parametrize(
    ("weights", "activations", "group_size"), [("int4", "float", 16), ("e2m1", "float", None), ("int4", "dynamic", 16)]
)
def test_groups_and_minifloats_are_rounded_too(weights: str, activations: str, group_size: int | None) -> None:
    model = nets.model(nets.TINY_RESIDUAL)
    context, _ = surroundings(model)
    options = {"weights": weights, "activations": activations, "group_size": group_size, "bias_correction": "none"}
    tables = [
        quantize(model, QuantizeOptions(**options, rounding=rounding), context).table  # type: ignore[arg-type]
        for rounding in ("nearest", "gptq")
    ]
    task, _ = task_of(model, context, **options)
    assert tables[0] is not None
    assert tables[1] is not None
    assert error_of(task, tables[1]) < error_of(task, tables[0])


def test_the_order_of_samples_says_nothing() -> None:
    model = nets.model(nets.TINY_CONV)
    context, _ = surroundings(model)
    task, table = task_of(model, context, weights="int4", bias_correction="none")
    backwards = replace(task, samples=replace(task.samples, inputs=(task.samples.inputs[0].flip(0),)))
    first, second = round_by_gptq(task, table), round_by_gptq(backwards, table)
    same = sum(int((first.weights[n].codes == second.weights[n].codes).sum()) for n in first.weights)
    assert same >= 0.98 * sum(codes.codes.numel() for codes in first.weights.values())
