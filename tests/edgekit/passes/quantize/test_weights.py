"""Scales of weights by both observers, through the pass."""

import pytest

from edgekit.nets.graph import tensor_of
from edgekit.nets.program import trace
from edgekit.numerics.quantise import channel_scales
from edgekit.numerics.scales import mse_channel_scales
from tests import nets
from tests.edgekit.formats.quantised import quantised


@pytest.mark.parametrize(("observer", "scales"), [("min-max", channel_scales), ("mse", mse_channel_scales)])
def test_a_channel_has_the_scale_that_its_observer_gives(observer: str, scales) -> None:  # type: ignore[no-untyped-def]
    model = quantised(nets.TINY_CONV, weights="int4", weight_observer=observer)
    program = trace(model)
    nodes = {str(node.target): node for node in program.module.graph.nodes if node.op == "get_attr"}
    assert model.table is not None
    for name in ("conv.weight", "depthwise.weight", "pointwise.weight", "linear.weight"):
        stored = model.table.weights[name]
        assert stored.scale.equal(scales(tensor_of(program.module, nodes[name]), 0, 7)), name


def test_the_observer_of_least_error_loses_less() -> None:
    errors = {}
    for observer in ("min-max", "mse"):
        model = quantised(nets.TINY_CONV, weights="int4", weight_observer=observer)
        program = trace(model)
        assert model.table is not None
        weight = dict(program.module.named_buffers())["conv.weight"]
        errors[observer] = float((model.table.weights["conv.weight"].values() - weight).square().sum())
    assert errors["mse"] < 0.97 * errors["min-max"]
