import math

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from edgekit.errors import PassError
from edgekit.passes.distill.distill import distill
from edgekit.passes.prune.group_norm import GroupPenalty, gammas
from edgekit.passes.prune.groups import find_groups
from edgekit.passes.prune.prune import prune
from edgekit.passes.train import train
from edgekit.schema.distill import DistillOptions
from edgekit.schema.prune import PruneOptions
from edgekit.schema.sparsity import GroupSparsityOptions
from edgekit.schema.train import TrainOptions


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 16, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.b = nn.Conv2d(16, 16, 3, 2, 1)
        self.c = nn.Linear(64, 4)

    def forward(self, x):
        return self.c(F.relu(self.b(F.relu(self.norm(self.a(x))))).flatten(1))


@pytest.fixture
def model(make_model, train_norms):
    torch.manual_seed(2)
    return make_model(train_norms(Net()))


def test_the_weakest_is_pressed_sixteen_times_as_hard_and_equal_ones_alike():
    found = gammas(torch.tensor([1.0, 4.0, 9.0]), 4.0)  # norms 1, 2, 3
    assert found.tolist() == [16.0, 4.0, 1.0]
    assert gammas(torch.tensor([2.0, 2.0]), 4.0).tolist() == [1.0, 1.0]
    assert gammas(torch.zeros(3), 4.0).tolist() == [1.0] * 3


def test_the_penalty_by_hand_over_all_that_a_channel_has(model):
    network = model.network
    options = GroupSparsityOptions(weight=0.1, alpha=3, keep=("b",))
    penalty = GroupPenalty.of(model, network, options, "train")
    ((width, sides),) = penalty.groups
    assert (width, len(sides)) == (16, 3)  # made by a, normed, read by b
    squares = (
        network.a.weight.square().sum((1, 2, 3))
        + network.norm.weight.square()
        + network.b.weight.square().sum((0, 2, 3))
    ).detach()
    norms = squares.sqrt()
    gamma = 2 ** (3 * (norms.max() - norms) / (norms.max() - norms.min()))
    assert penalty().item() == pytest.approx(0.05 * (gamma * squares).sum().item(), rel=1e-5)
    penalty().backward()
    torch.testing.assert_close(network.a.weight.grad, 0.1 * gamma[:, None, None, None] * network.a.weight.detach())
    torch.testing.assert_close(network.b.weight.grad, 0.1 * gamma[:, None, None] * network.b.weight.detach())
    torch.testing.assert_close(network.norm.weight.grad, 0.1 * gamma * network.norm.weight.detach())
    assert network.c.weight.grad is None


def test_a_flattened_channel_is_every_one_of_its_places(model):
    penalty = GroupPenalty.of(model, model.network, GroupSparsityOptions(keep=("a",)), "train")
    ((_, sides),) = penalty.groups
    reader = next(side for side in sides if side.weight is model.network.c.weight)
    assert reader.channel.tolist() == [channel for channel in range(16) for _ in range(4)]


def test_a_network_without_channels_to_prune_is_refused(make_model):
    model = make_model(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    with pytest.raises(PassError) as caught:
        GroupPenalty.of(model, model.network, GroupSparsityOptions(), "train")
    assert caught.value.where == "step train, group_sparsity"


OPTIONS = {"epochs": 12, "batch_size": 32, "learning_rate": 0.05, "weight_decay": 0.0}


def test_pruning_costs_less_after_it(model, make_context, samples, tmp_path):
    data, test = samples(256), samples(256, seed=9)

    def lost(name, **sparse):
        context = make_context(train=data, folder=tmp_path / name)
        trained = train(model, TrainOptions(**OPTIONS, **sparse), context)
        pruned = prune(trained, PruneOptions(channel_ratio=0.5, recalibrate_norms=False), context)
        with torch.no_grad():
            one, other = (m.network(test.inputs[0]) for m in (trained, pruned))
        right = (one.argmax(1) == test.labels).float().mean()
        return ((one - other).square().mean() / one.square().mean()).item(), right.item()

    (dense, _), (sparse, right) = lost("dense"), lost("sparse", group_sparsity={"weight": 2e-2})
    assert right > 0.95
    assert sparse < 0.01 * dense


def test_students_are_pressed_too(model, make_context, samples, tmp_path):
    def squares(name, **sparse):
        options = DistillOptions.model_validate({"method": "uskd", "epochs": 2, "batch_size": 32, **sparse})
        taught = distill(model, options, make_context(train=samples(96), folder=tmp_path / name))
        return taught.network.b.weight.square().sum().item()

    assert squares("sparse", group_sparsity={"weight": 0.1}) < 0.9 * squares("dense")


def test_a_killed_training_goes_on_to_the_same_bits(model, make_context, samples, tmp_path):
    options = TrainOptions(epochs=2, batch_size=32, group_sparsity=GroupSparsityOptions(weight=0.01))
    data, alive = samples(64), True
    whole = train(model, options, make_context(train=data, folder=tmp_path / "whole"))

    def kill(done, total, note=""):
        if alive and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, options, make_context(train=data, folder=tmp_path / "killed", progress=kill))
    alive = False
    resumed = train(model, options, make_context(train=data, folder=tmp_path / "killed", progress=kill))
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], tensor)
    assert math.isfinite(load_file(tmp_path / "killed" / "training.safetensors")["network.a.weight"].sum())


def test_groups_that_pruning_finds_are_those_that_are_pressed(model):
    penalty = GroupPenalty.of(model, model.network, GroupSparsityOptions(), "train")
    assert [width for width, _ in penalty.groups] == [group.width for group in find_groups(model).groups]
