import pytest
import torch
from torch import nn

from edgekit.nets.count import count_macs
from edgekit.nets.edits import apply_edits
from edgekit.passes.prune.autobot.flops import GatedMacs
from edgekit.passes.prune.cut import keep_edits
from edgekit.passes.prune.groups import find_groups


def test_whole_it_is_the_count_and_after_a_cut_that_of_the_cut_network(model, groups, draw_cut):
    macs = GatedMacs.of(model, groups)
    ones = {group.root: torch.ones(group.width, dtype=torch.float64).sum() for group in groups}
    assert macs.total({}) == macs.total(ones) == count_macs(model)
    for seed in range(3):
        masks = draw_cut(seed)
        removed = {root: tuple(torch.nonzero(~mask).flatten().tolist()) for root, mask in masks.items()}
        edits = keep_edits(model, groups, removed)
        cut = model.with_(apply_edits(model.network, edits), "prune", edits)
        assert macs.total({root: mask.double().sum() for root, mask in masks.items()}) == count_macs(cut)
        assert macs.total({root: int(mask.sum()) for root, mask in masks.items()}) == count_macs(cut)


def test_half_open_gates_by_hand_and_their_gradient(make_model):
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 2, 1, groups=4), nn.Conv2d(4, 6, 1), nn.Flatten(), nn.Linear(96, 2)
    )
    model = make_model(network, (1, 1, 8, 8))
    macs = GatedMacs.of(model, find_groups(model).groups)
    first, second = torch.tensor(2.5, requires_grad=True), torch.tensor(1.5, requires_grad=True)
    total = macs.total({"0": first, "2": second})
    # 8x8 maps of 9 taps, 4x4 of 9 each alone, 4x4 of 1, and 16 features a channel into 2
    assert total.item() == 64 * 9 * 2.5 + 16 * 9 * 2.5 + 16 * 2.5 * 1.5 + 16 * 1.5 * 2
    total.backward()
    assert first.grad.item() == 64 * 9 + 16 * 9 + 16 * 1.5
    assert second.grad.item() == 16 * 2.5 + 32


@pytest.mark.parametrize("model", ["attention"], indirect=True)
def test_the_products_of_attention_fall_with_the_heads(model, groups):
    macs = GatedMacs.of(model, groups)
    heads = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    fewer = macs.total({}) - macs.total({"qkv": heads})
    # 8 tokens; a head of 4 channels out of 12 and into 12, and two products of 8 x 4 x 8
    each = 8 * (3 * 12 * 4 + 4 * 12) + 2 * 8 * 4 * 8
    assert fewer.item() == 1.5 * each
    fewer.backward()
    assert heads.grad.item() == -each


def test_a_transposed_convolution_counts_what_its_inputs_meet(make_model):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 6, 2, stride=2), nn.Flatten(), nn.Linear(864, 2))
    model = make_model(network)
    macs = GatedMacs.of(model, [])
    assert macs.total({}) == count_macs(model) == 36 * 9 * 4 + 36 * 4 * 6 * 4 + 864 * 2
    assert macs.rest == 0
