import torch
from torch import nn

from edgekit.nets.count import count_params
from edgekit.nets.edits import apply_edits
from edgekit.passes.prune.autobot.tensors import GatedTensors
from edgekit.passes.prune.cut import keep_edits
from edgekit.passes.prune.groups import find_groups


def _bytes(network):
    return sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())


def test_whole_and_cut_they_are_what_the_networks_hold(model, groups, draw_cut):
    masks = draw_cut()
    groups = groups[::2]
    removed = {root: tuple(torch.nonzero(~mask).flatten().tolist()) for root, mask in masks.items()}
    cut = apply_edits(model.network, keep_edits(model, groups, removed))
    kept = {group.root: masks[group.root].double().sum() for group in groups}
    for cost, count in (
        (GatedTensors.parameters(model.network, groups), count_params),
        (GatedTensors.stored_bytes(model.network, groups), _bytes),
    ):
        assert cost.total({}) == count(model.network)
        assert cost.total(kept) == count(cut)
        assert count(cut) < count(model.network)


def test_half_open_gates_by_hand_and_their_gradient(make_model):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1, bias=False))
    network = nn.Sequential(*network, nn.Flatten(), nn.Linear(72, 3))
    model = make_model(network)
    groups = find_groups(model).groups
    first, second = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (2.5, 1.5))
    total = GatedTensors.parameters(network, groups).total({"0": first, "2": second})
    assert total.item() == (9 + 1 + 2) * 2.5 + 2.5 * 1.5 + 36 * 1.5 * 3 + 3
    total.backward()
    assert (first.grad.item(), second.grad.item()) == (12 + 1.5, 2.5 + 108)
    stored = GatedTensors.stored_bytes(network, groups).total({"0": 2, "2": 2})
    assert stored == 4 * ((9 + 1 + 4) * 2 + 2 * 2 + 72 * 3 + 3) + 8  # and the norm counts batches
