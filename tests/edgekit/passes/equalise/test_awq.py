"""AWQ's search against a search written out here."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgekit.nets.program import trace_as_written
from edgekit.numerics.smooth import RATIOS, awq_factors, rounded_in_groups
from edgekit.passes.equalise.awq import _between, awq
from tests.edgekit.passes.equalise.networks import Block, Pair, Shortcuts, model_of, task_of


def _with_outlier(network, shape):
    """Channel 2 of what `second` reads is 30 times as large as the others."""
    model = model_of(network, shape)
    with torch.no_grad():
        model.network.first.weight[2] *= 30
    return model


def test_the_ratio_is_the_one_that_loses_least_behind_the_layer():
    model = _with_outlier(Pair(), (1, 5))
    task, before = task_of(model, 32, weights="int3", group_size=3)
    with torch.no_grad():
        x = F.relu(model.network.first(task.samples().inputs[0]))
    weight, magnitude = before["second.weight"], x.abs().mean(0)

    def loss(ratio):
        factors = awq_factors(magnitude, ratio)
        rounded = rounded_in_groups(weight * factors, 3, 3) / factors
        return (x.double() @ (rounded - weight).T).square().sum().item()

    best = min(RATIOS, key=loss)
    assert best > 0
    assert loss(best) < 0.7 * loss(0.0)
    factors = awq_factors(magnitude, best)
    after = awq(task, before).tensors
    torch.testing.assert_close(after["second.weight"], weight * factors, rtol=1e-5, atol=0)
    torch.testing.assert_close(after["first.bias"], before["first.bias"] / factors, rtol=1e-5, atol=0)


def test_projections_of_attention_are_judged_by_what_attention_makes_of_them():
    model = model_of(Block("rms", packed=False), (1, 4, 4))
    program = trace_as_written(model)
    nodes = {name: node for node, name in program.names.items()}
    inside = _between(program.module, [nodes["q/linear"], nodes["k/linear"], nodes["v/linear"]])
    assert inside[-1].target is torch.ops.aten.scaled_dot_product_attention.default
    assert nodes["q/linear"] in inside
    assert nodes["norm1/rms_norm"] not in inside
    assert _between(program.module, [nodes["up/linear"]]) == (nodes["up/linear"],)


def test_a_packed_projection_loses_less_than_with_its_scales_as_they_came():
    model = model_of(Block(), (1, 4, 4))
    with torch.no_grad():
        model.network.norm1.weight[3] *= 30
    task, before = task_of(model, 16, weights="int3", group_size=4)
    after = awq(task, before).tensors
    network = model.network.double()

    def attended(tensors, **rounded):
        """What `out` reads, with what the values were multiplied by taken off."""
        network.load_state_dict({**tensors, **rounded})
        found = []
        handle = network.out.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].detach()))
        network(task.samples().inputs[0].double())
        handle.remove()
        return found[0] * tensors["out.weight"].norm(dim=0) / before["out.weight"].norm(dim=0)

    wanted = attended(before)
    torch.testing.assert_close(attended(after), wanted, rtol=1e-9, atol=1e-9)
    plain, ours = (
        (attended(t, **{"qkv.weight": rounded_in_groups(t["qkv.weight"], 4, 3)}) - wanted).square().sum()
        for t in (before, after)
    )
    assert ours < 0.9 * plain


def test_channels_that_are_read_in_several_places_are_left():
    model = model_of(Shortcuts(), (1, 1, 8, 8))
    for block in (model.network.same, model.network.wider):
        block.bn1, block.bn2 = nn.Identity(), nn.Identity()
    task, before = task_of(model)
    rewrite = awq(task, before)
    assert "several places" in rewrite.left["stem/conv2d"]
    assert torch.equal(rewrite.tensors["stem.weight"], before["stem.weight"])
    assert "same.conv1/conv2d" not in rewrite.left  # inside a block they are read once


@pytest.mark.parametrize("group_size", [None, 4])
def test_any_shape_of_group_keeps_the_function(group_size):
    model = _with_outlier(Pair(), (1, 5))
    task, before = task_of(model, weights="int2", group_size=group_size)
    after = awq(task, before).tensors
    network, x = model.network.double(), torch.randn(4, 5, dtype=torch.float64)
    wanted = network(x)
    network.load_state_dict(after)
    torch.testing.assert_close(network(x), wanted, rtol=1e-12, atol=1e-12)
    assert not torch.equal(after["second.weight"], before["second.weight"])
