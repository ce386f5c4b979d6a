"""Ranges after equalisation against their closed forms."""

import pytest
import torch

from edgekit.passes.equalise.cross_layer import cross_layer
from tests.edgekit.passes.equalise.networks import Block, Pair, Shortcuts, Triple, model_of, task_of


def _rows(weight):
    return weight.abs().flatten(1).amax(1)


def _columns(weight):
    return weight.abs().transpose(0, 1).flatten(1).amax(1)


def test_both_ranges_of_a_pair_become_their_geometric_mean():
    task, before = task_of(model_of(Pair(), (1, 5)))
    made, read = _rows(before["first.weight"]), _columns(before["second.weight"])
    after = cross_layer(task, before).tensors
    torch.testing.assert_close(_rows(after["first.weight"]), (made * read).sqrt(), rtol=1e-12, atol=0)
    torch.testing.assert_close(_columns(after["second.weight"]), (made * read).sqrt(), rtol=1e-12, atol=0)
    torch.testing.assert_close(after["first.bias"], before["first.bias"] * (read / made).sqrt(), rtol=1e-12, atol=0)
    assert torch.equal(after["second.bias"], before["second.bias"])


def test_three_ranges_around_a_depthwise_layer_become_their_geometric_mean():
    task, before = task_of(model_of(Triple(), (1, 2, 6, 6)))
    ranges = [_rows(before["first.weight"]), _rows(before["depthwise.weight"]), _columns(before["last.weight"])]
    after = cross_layer(task, before).tensors
    mean = (ranges[0] * ranges[1] * ranges[2]) ** (1 / 3)
    torch.testing.assert_close(_rows(after["first.weight"]), mean, rtol=1e-4, atol=0)  # sweeps end at changes of 1e-4
    torch.testing.assert_close(_rows(after["depthwise.weight"]), mean, rtol=1e-4, atol=0)
    torch.testing.assert_close(_columns(after["last.weight"]), mean, rtol=1e-4, atol=0)


def test_branches_that_meet_share_their_factors():
    model = model_of(Shortcuts(), (1, 1, 8, 8))
    for block in (model.network.same, model.network.wider):
        block.bn1, block.bn2 = torch.nn.Identity(), torch.nn.Identity()
    task, before = task_of(model)
    rewrite = cross_layer(task, before)
    after = rewrite.tensors
    factors = {name: rewrite.factors[f"{name}/conv2d"][0, :, 0, 0] for name in ("stem", "same.conv2", "wider.conv2")}
    torch.testing.assert_close(after["stem.bias"], before["stem.bias"] * factors["stem"], rtol=1e-12, atol=0)
    assert torch.equal(factors["same.conv2"], factors["stem"])
    assert torch.equal(factors["wider.conv2"][1:5], factors["stem"])
    made = torch.stack([_rows(after[n]) for n in ("stem.weight", "same.conv2.weight")]).amax(0)
    made = torch.maximum(made, _rows(after["wider.conv2.weight"])[1:5])
    read = torch.stack([_columns(after[n]) for n in ("same.conv1.weight", "wider.conv1.weight")]).amax(0)
    read = torch.maximum(read, _columns(after["head.weight"])[1:5])
    torch.testing.assert_close(made, read, rtol=1e-3, atol=0)


def test_a_dead_channel_keeps_its_scale():
    model = model_of(Pair(), (1, 5))
    with torch.no_grad():
        model.network.first.weight[2], model.network.second.weight[:, 4] = 0, 0
    task, before = task_of(model)
    after = cross_layer(task, before).tensors
    for name, dead in (("first.bias", 2), ("first.bias", 4)):
        assert after[name][dead] == before[name][dead]
    assert after["first.bias"][0] != before["first.bias"][0]


def test_the_result_does_not_depend_on_the_scales_that_the_network_came_with():
    model = model_of(Triple(), (1, 2, 6, 6))
    task, before = task_of(model)
    harder = dict(before)
    up = torch.tensor([50.0, 0.02, 1, 7], dtype=torch.float64).reshape(-1, 1, 1, 1)
    harder["first.weight"], harder["first.bias"] = before["first.weight"] * up, before["first.bias"] * up.flatten()
    harder["depthwise.weight"] = before["depthwise.weight"] / up
    wanted, found = cross_layer(task, before).tensors, cross_layer(task, harder).tensors
    for name in before:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-3, atol=0)


def test_channels_of_a_gain_are_left_to_smooth():
    task, before = task_of(model_of(Block(), (1, 4, 4)))
    rewrite = cross_layer(task, before)
    assert "gain" in rewrite.left["norm1/layer_norm"]
    assert torch.equal(rewrite.tensors["norm1.weight"], before["norm1.weight"])
    assert not torch.equal(rewrite.tensors["up.weight"], before["up.weight"])
    # queries and keys come from the layer of the values too, and stay
    assert torch.equal(rewrite.tensors["qkv.weight"][:16], before["qkv.weight"][:16])
    assert not torch.equal(rewrite.tensors["qkv.weight"][16:], before["qkv.weight"][16:])


@pytest.mark.parametrize("network", [Pair(), Triple()])
def test_activations_are_told_their_factors(network):
    task, before = task_of(model_of(network, (1, 5) if isinstance(network, Pair) else (1, 2, 6, 6)))
    rewrite = cross_layer(task, before)
    relu = rewrite.factors["/relu"]
    bias = rewrite.tensors["first.bias"] / before["first.bias"]
    torch.testing.assert_close(relu.movedim(1, -1).reshape(-1, len(bias))[0], bias, rtol=1e-12, atol=0)
    assert "input:input" not in rewrite.factors
