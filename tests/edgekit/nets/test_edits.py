import copy

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from edgekit.errors import ModelError, ShapeError
from edgekit.nets.edits import Edit, Keep, Replace, apply_edits
from tests import nets


def x(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def silence(network, dropped):
    """Zero the channels of tiny_conv's first two layers, so that dropping them changes nothing."""
    with torch.no_grad():
        for norm in (network.norm, network.depthwise_norm):
            norm.weight[dropped] = 0
            norm.bias[dropped] = 0
    return network


KEEP_1_AND_2 = [
    Keep(layer="conv", side="out", indices=(1, 2)),
    Keep(layer="norm", side="out", indices=(1, 2)),
    Keep(layer="depthwise", side="out", indices=(1, 2)),
    Keep(layer="depthwise_norm", side="out", indices=(1, 2)),
    Keep(layer="pointwise", side="in", indices=(1, 2)),
]


def test_dropping_silent_channels_changes_no_output():
    network = silence(nets.tiny_conv(), [0, 3])
    before = copy.deepcopy(network.state_dict())
    edited = apply_edits(network, KEEP_1_AND_2)
    torch.testing.assert_close(edited(x(2, 2, 8, 8)), network(x(2, 2, 8, 8)), rtol=1e-6, atol=1e-6)
    # conv 2*2*9, norms 2*2 each, depthwise 2*9, pointwise 2*6 + 6, linear 18 + 3
    assert sum(p.numel() for p in edited.parameters()) == 36 + 4 + 18 + 4 + 18 + 21
    assert (edited.depthwise.groups, edited.norm.num_features, edited.pointwise.in_channels) == (2, 2, 2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_the_input_side_of_a_grouped_convolution_is_cut_within_each_group():
    conv = nn.Conv2d(6, 4, 3, groups=2)
    kept = (0, 2, 3, 4)  # 0 and 2 of the first group, 0 and 1 of the second
    network = nn.Sequential(conv)
    edited = apply_edits(network, [Keep(layer="0", side="in", indices=kept)])
    full = torch.zeros(1, 6, 5, 5)
    full[:, list(kept)] = x(1, 4, 5, 5)
    torch.testing.assert_close(edited(full[:, list(kept)]), network(full))


def test_the_output_side_of_a_grouped_convolution_keeps_rows():
    network = nn.Sequential(nn.Conv2d(6, 4, 3, groups=2))
    edited = apply_edits(network, [Keep(layer="0", side="out", indices=(1, 2))])
    torch.testing.assert_close(edited(x(1, 6, 5, 5)), network(x(1, 6, 5, 5))[:, [1, 2]])


def test_both_sides_of_a_linear_layer():
    network = nn.Sequential(nn.Linear(4, 3))
    edits = [Keep(layer="0", side="in", indices=(0, 3)), Keep(layer="0", side="out", indices=(1,))]
    edited = apply_edits(network, edits)
    full = torch.zeros(2, 4)
    full[:, [0, 3]] = x(2, 2)
    torch.testing.assert_close(edited(x(2, 2)), network(full)[:, [1]])


def test_fixed_weights_stay_fixed():
    network = nn.Sequential(nn.Conv2d(2, 4, 1))
    network[0].weight.requires_grad_(False)
    edited = apply_edits(network, [Keep(layer="0", side="out", indices=(0, 2))])
    assert not edited[0].weight.requires_grad
    assert edited[0].bias.requires_grad


@pytest.mark.parametrize(
    "edit",
    [
        Keep(layer="conv", side="out", indices=(1, 4)),
        Keep(layer="conv", side="out", indices=(2, 1)),
        Keep(layer="conv", side="out", indices=(-1, 1)),
    ],
)
def test_indices_outside_the_layer_or_out_of_order_are_refused(edit):
    with pytest.raises(ShapeError) as caught:
        apply_edits(nets.tiny_conv(), [edit])
    assert "conv" in caught.value.where


def test_groups_must_keep_equally_many():
    with pytest.raises(ShapeError):
        apply_edits(nn.Sequential(nn.Conv2d(4, 4, 1, groups=2)), [Keep(layer="0", side="out", indices=(0, 1, 2))])


@pytest.mark.parametrize("layer", ["depthwise", "norm"])
def test_layers_with_one_set_of_channels_are_cut_once(layer):
    with pytest.raises(ModelError) as caught:
        apply_edits(nets.tiny_conv(), [Keep(layer=layer, side="in", indices=(0,))])
    assert "'out'" in caught.value.fix


MERGE = [
    Replace(
        layer="blocks.0.conv",
        by="conv2d",
        arguments={"in_channels": 2, "out_channels": 4, "kernel_size": 3, "stride": [2, 2], "padding": 1, "bias": True},
    ),
    *(Replace(layer=f"blocks.0.{name}", by="none") for name in ("conv3", "bn3", "conv1", "bn1")),
]


def test_a_block_is_merged_by_edits_alone():
    network = nets.tiny_repvgg()
    edited = apply_edits(network, MERGE)
    names = {name for name in edited.state_dict() if name.startswith("blocks.0")}
    assert names == {"blocks.0.conv.weight", "blocks.0.conv.bias"}
    assert edited(x(1, 2, 8, 8)).shape == (1, 3)
    assert not edited.blocks[0].conv.training
    assert torch.equal(apply_edits(network, MERGE).blocks[0].conv.weight, edited.blocks[0].conv.weight)


def test_identity_takes_the_place_of_a_norm():
    edited = apply_edits(nets.tiny_conv(), [Replace(layer="norm", by="identity")])
    assert isinstance(edited.norm, nn.Identity)


def test_a_sequence_cannot_hold_none():
    with pytest.raises(ModelError) as caught:
        apply_edits(nn.Sequential(nn.ReLU()), [Replace(layer="0", by="none")])
    assert "identity" in caught.value.fix


@pytest.mark.parametrize(
    "edit",
    [
        Keep(layer="cnov", side="out", indices=(0,)),
        Replace(layer="cnov", by="none"),
        Replace(layer="conv.deeper.still", by="identity"),
        Replace(layer="", by="identity"),
    ],
)
def test_a_layer_that_is_not_there_is_named(edit):
    with pytest.raises(ModelError) as caught:
        apply_edits(nets.tiny_conv(), [edit])
    assert repr(edit.layer) in caught.value.what


def test_arguments_that_torch_refuses_are_an_error():
    with pytest.raises(ModelError) as caught:
        apply_edits(nets.tiny_conv(), [Replace(layer="conv", by="conv2d", arguments={"channels": 3})])
    assert "channels" in caught.value.what


def test_edits_survive_json():
    adapter = TypeAdapter(tuple[Edit, ...])
    edits = (*KEEP_1_AND_2, *MERGE)
    assert adapter.validate_json(adapter.dump_json(edits)) == edits
