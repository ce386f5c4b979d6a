import pytest
import torch
from torch import nn

from edgekit.errors import PassError
from edgekit.nets.steps import on_samples
from edgekit.passes.sparsity.layers import find_prunable
from edgekit.schema.sparsity import SparsityOptions
from tests import nets


class _Mixed(nn.Module):
    """Two branches that read the input, a depthwise and a grouped convolution, a norm of two axes, a tied head."""

    def __init__(self):
        super().__init__()
        self.late = nn.Conv2d(8, 8, 1)  # registered first, runs last
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.branch = nn.Conv2d(1, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.norm = nn.LayerNorm((8, 8))
        self.embed = nn.Embedding(4, 8)
        self.head = nn.Linear(8, 4, bias=False)
        self.head.weight = self.embed.weight
        self.odd = nn.Linear(4, 6)
        self.last = nn.Linear(6, 4)

    def forward(self, x):
        x = self.grouped(self.depthwise(self.stem(x) + self.branch(x)))
        return self.last(self.odd(self.head(self.late(self.norm(x)).mean((2, 3)))))


INPUTS = (torch.zeros(2, 1, 8, 8),)


def _find(network, **options):
    return find_prunable(network, SparsityOptions(**options), INPUTS, "train")


def test_what_reads_the_input_depthwise_ones_and_norms_stay_dense():
    found = _find(_Mixed())
    assert set(found.weights) == {"late.weight", "grouped.weight", "head.weight", "odd.weight", "last.weight"}
    assert found.dense == {
        "stem.weight": "first convolution",
        "branch.weight": "first convolution",
        "depthwise.weight": "depthwise convolution",
    }


def test_include_and_exclude_take_layers_and_whole_modules():
    network = nn.Sequential(_Mixed(), nn.Linear(4, 4))
    found = _find(network, include=("0.stem", "0.depthwise"), exclude=("1", "0.late"))
    assert {"0.stem.weight", "0.depthwise.weight"} <= set(found.weights)
    assert found.dense["1.weight"] == found.dense["0.late.weight"] == "named in exclude"
    with pytest.raises(PassError) as caught:
        _find(network, exclude=("0", "1"))
    assert caught.value.what == "no weight of the network can become zero"


def test_two_of_four_needs_groups_of_four_inputs():
    found = _find(_Mixed(), pattern="2:4")
    assert set(found.weights) == {"late.weight", "head.weight", "odd.weight"}
    assert found.dense["last.weight"] == "6 inputs are no multiple of 4"
    assert found.dense["grouped.weight"].startswith("grouped convolution")


def test_a_weight_that_layers_share_is_there_once_and_dense_if_one_of_them_is():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 4))
    network[3].weight = network[1].weight
    assert set(_find(network).weights) == {"1.weight", "4.weight"}
    assert set(_find(network, exclude=("3",)).weights) == {"4.weight"}


def test_weights_that_are_not_trained_stay_as_they_are():
    network = _Mixed()
    network.late.weight.requires_grad_(False)
    assert _find(network).dense["late.weight"] == "is not trained"


def test_an_unknown_name_and_a_network_without_weights_are_refused():
    with pytest.raises(PassError) as caught:
        _find(_Mixed(), exclude=("steam",))
    assert caught.value.where == "step train, sparsity.exclude"
    assert "stem" in caught.value.fix
    with pytest.raises(PassError) as caught:
        _find(nn.Sequential(nn.Conv2d(1, 4, 3)))
    assert caught.value.fix == "0.weight: first convolution"


def test_the_network_is_left_in_the_mode_it_was_in():
    network = _Mixed().train()
    network.late.eval()
    _find(network)
    assert (network.training, network.stem.training, network.late.training) == (True, True, False)


def test_a_recurrent_network_has_its_gates_among_them_and_its_own_names():
    model = nets.recurrent("lstm", 3)
    found = find_prunable(on_samples(model, model.network), SparsityOptions(), (torch.zeros(2, 3, 3),), "train")
    assert any(name.endswith("weight_hh_l0") for name in found.weights)
    assert not any(name.startswith("step.") for name in found.weights)
