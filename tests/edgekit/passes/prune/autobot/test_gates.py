import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from edgekit.nets.edits import apply_edits
from edgekit.passes.prune.autobot.gates import Gates, why_not_gated
from edgekit.passes.prune.cut import keep_edits
from edgekit.passes.prune.group import ChannelGroup, Member
from edgekit.passes.prune.groups import find_groups


def _run(network, model, batch=3):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        return network(torch.randn(batch, *model.inputs[0].shape[1:], generator=generator))


def _removed(masks):
    return {root: tuple(torch.nonzero(~mask).flatten().tolist()) for root, mask in masks.items()}


def test_open_gates_change_no_bit_and_leave_nothing_behind(model, groups):
    gates = Gates(model.network, groups)
    before = _run(model.network, model)
    with gates.applied(torch.ones(len(gates))):
        assert torch.equal(_run(model.network, model), before)
    with gates.applied(torch.zeros(len(gates))):
        assert not torch.equal(_run(model.network, model), before)
    with pytest.raises(TypeError), gates.applied(torch.zeros(len(gates))):
        model.network(None)
    assert torch.equal(_run(model.network, model), before)


@pytest.mark.parametrize("every", [1, 2])
def test_closed_gates_are_the_network_without_those_channels(every, model, groups, draw_cut):
    masks = draw_cut()
    groups = groups[::every]  # of some layers, only some inputs have a gate then
    cut = apply_edits(model.network, keep_edits(model, groups, _removed(masks)))
    gates = Gates(model.network, groups)
    with gates.applied(torch.cat([masks[group.root] for group in groups]).float()):
        gated = _run(model.network, model)
    assert not torch.allclose(gated, _run(model.network, model), rtol=1e-3)
    torch.testing.assert_close(_run(cut, model), gated, rtol=1e-5, atol=1e-5 * gated.abs().max().item())


def test_one_vector_for_a_residual_stage_and_for_a_depthwise_layer(model, groups):
    gates = Gates(model.network, groups)
    vectors = gates.by_group(torch.arange(len(gates)))
    assert torch.equal(torch.cat(list(vectors.values())), torch.arange(len(gates)))
    assert {root: len(vector) for root, vector in vectors.items()} == {g.root: g.width for g in gates.groups}
    readers = {root for group in gates.groups for root in (m.layer for m in group.members if m.side == "in")}
    depthwise = [n for n, m in model.network.named_modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert not readers & set(depthwise)


def test_every_input_of_a_layer_has_its_own_gate(make_model):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(2 * 4, 3))
    model = make_model(network, (1, 1, 2, 2))
    gates = Gates(network, find_groups(model).groups)
    x = torch.randn(5, 1, 2, 2)
    values = torch.tensor([0.25, 0.75], requires_grad=True)
    with gates.applied(values):
        gated = network(x)
    scaled = copy.deepcopy(network[2])
    with torch.no_grad():  # a channel is four features of the flattened map
        scaled.weight *= torch.tensor([0.25] * 4 + [0.75] * 4)
        torch.testing.assert_close(gated, scaled(network[0](x).flatten(1)))
        channels = network[0](x).flatten(2)  # (5, 2, 4)
    by_hand = torch.stack([(channels[:, c] @ network[2].weight[:, 4 * c : 4 * c + 4].T).sum() for c in range(2)])
    gated.sum().backward()
    torch.testing.assert_close(values.grad, by_hand)


def test_groups_where_a_gate_would_not_be_the_cut_are_named():
    network = nn.ModuleDict({"a": nn.Linear(2, 4), "b": nn.Linear(4, 2), "c": nn.Conv2d(4, 4, 1, groups=2)})
    each = tuple((channel,) for channel in range(4))
    made, read = Member("a", "out", each), Member("b", "in", each, 1)
    group = ChannelGroup("a", 4, (made, read))
    assert why_not_gated(group, network) is None
    for other, reason in (
        (replace(group, exact=False), "a norm takes means"),
        (replace(group, members=(made,)), "no layer whose inputs"),
        (replace(group, members=(made, read, Member("weight_hh_l0", "in", each, 1))), "the tensor weight_hh_l0 reads"),
        (replace(group, members=(made, read, Member("c", "in", each, 1))), "c reads its channels, a Conv2d"),
    ):
        assert reason in (why_not_gated(other, network) or "")


@pytest.mark.parametrize("model", ["attention"], indirect=True)
def test_heads_have_a_gate_each_and_a_normed_stream_has_none(model, groups):
    assert {group.root: group.width for group in groups} == {"qkv": 4, "wide": 20}
    (stream,) = (group for group in find_groups(model).groups if group.root == "embed")
    assert "a norm" in (why_not_gated(stream, model.network) or "")
