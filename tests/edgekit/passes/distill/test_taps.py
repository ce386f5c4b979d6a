import pytest
import torch
from torch import nn

from edgekit.errors import PassError
from edgekit.nets.cifar_resnet import resnet20
from edgekit.nets.mlperf_tiny import resnet8
from edgekit.nets.vit import vit_gelu
from edgekit.passes.distill.taps import Tap, find_taps, match_taps, name_taps, watched
from tests import nets


def found(model):
    return [(tap.name, tap.shape) for tap in find_taps(model)]


def test_stages_end_where_pictures_get_smaller(make_model):
    shape = (1, 3, 32, 32)
    assert found(make_model(resnet20(), shape)) == [
        ("layer1", (16, 32, 32)),
        ("layer2", (32, 16, 16)),
        ("layer3", (64, 8, 8)),
    ]
    # its padding makes pictures of 33 by 33, which are no stage
    assert found(make_model(resnet8(), shape)) == [("b1", (16, 32, 32)), ("b2", (32, 16, 16)), ("b3", (64, 8, 8))]


def test_blocks_of_a_transformer_are_stages_and_their_channels_come_last(make_model):
    taps = find_taps(make_model(vit_gelu(), (1, 3, 32, 32)))
    assert [tap.name for tap in taps] == [f"transformer.layers.{i}" for i in range(4)]
    assert {(tap.channels, tap.places, tap.channel_axis) for tap in taps} == {(96, (65,), 2)}


def test_a_network_of_vectors_has_what_its_last_layer_reads(make_model):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 4))
    assert found(make_model(network)) == [("2", (6,))]
    assert found(make_model(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))) == []


def test_sequences_of_a_convolution_have_their_channels_first(make_model):
    network = nn.Sequential(nn.Conv1d(2, 5, 3), nn.Conv1d(5, 3, 3, 2), nn.Flatten(), nn.Linear(9, 2))
    taps = find_taps(make_model(network, (1, 2, 9)))
    assert [(tap.channels, tap.places) for tap in taps] == [(5, (7,)), (3, (3,))]


def test_stages_are_matched_by_size_or_else_by_order():
    def taps(*sizes):
        return [Tap(f"{i}", (4, size, size), 1) for i, size in enumerate(sizes)]

    def pairs(student, teacher):
        return [(one.name, other.name) for one, other in match_taps(taps(*student), taps(*teacher))]

    assert pairs((16, 8, 4), (32, 16, 8)) == [("0", "1"), ("1", "2")]
    assert pairs((14, 7), (32, 16, 8, 4)) == [("0", "1"), ("1", "3")]
    assert pairs((8, 8, 8), (8,)) == [("2", "0")]


def test_a_module_that_runs_twice_gives_what_it_gave_last(make_model):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Linear(4, 4)
            self.last = nn.Linear(4, 2)

        def forward(self, x):
            return self.last(self.shared(self.shared(x)))

    model = make_model(Twice(), (1, 4))
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    with watched(model.network, name_taps(model, ["shared"], "here")) as take:
        model.network(x)
        (taken,) = take()
    assert torch.equal(taken, model.network.shared(model.network.shared(x)))
    assert not model.network.shared._forward_hooks


def test_a_module_that_gives_no_feature_is_refused_by_name():
    for name in ("nrom", "linear"):  # there is none; its output is that of the network
        with pytest.raises(PassError) as caught:
            name_taps(nets.model(nets.TINY_CONV), [name], "step distill, at.taps")
        assert repr(name) in caught.value.what
        assert caught.value.where == "step distill, at.taps"
