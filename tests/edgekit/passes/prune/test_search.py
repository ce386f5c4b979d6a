"""The search on real networks: budgets of every kind, blocks, damage without labels, time from a table."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgekit.errors import DeviceError, PassError
from edgekit.nets.cifar_resnet import CifarResNet
from edgekit.nets.count import count_macs, count_params
from edgekit.nets.edits import apply_edits
from edgekit.passes.prune.cost import count_bytes
from edgekit.passes.prune.divergence import Divergence
from edgekit.passes.prune.latency import LatencyTable, alone, timed_layers
from edgekit.passes.prune.prune import prune
from edgekit.schema.prune import PruneOptions

IMAGE = (1, 3, 16, 16)


@pytest.fixture
def resnet(make_model, train_norms):
    torch.manual_seed(2)
    return make_model(train_norms(CifarResNet(depth=20, classes=4)), IMAGE)


@pytest.fixture
def context(make_context, samples):
    return make_context(calibration=samples(32, IMAGE[1:], seed=3), channel_multiple=8)


def _timed(milliseconds):
    """A device on which a model takes `milliseconds(model)`."""
    return lambda model: SimpleNamespace(summary=SimpleNamespace(p50_ms=milliseconds(model)))


@pytest.mark.parametrize(
    ("budget", "count"),
    [
        ({"macs_ratio": 0.6}, count_macs),
        ({"params_ratio": 0.6}, lambda model: count_params(model.network)),
        ({"size_ratio": 0.6}, count_bytes),
    ],
)
def test_a_counted_budget_is_met_by_the_network_as_cut(budget, count, resnet, context):
    pruned = prune(resnet, PruneOptions(budget=budget, samples=16), context)
    assert 0.4 < count(pruned) / count(resnet) <= 0.6
    replayed = apply_edits(resnet.network, pruned.edits)
    assert {k: v.shape for k, v in replayed.state_dict().items()} == {
        k: v.shape for k, v in pruned.network.state_dict().items()
    }


def test_a_block_that_adds_nothing_goes_first(resnet, context):
    with torch.no_grad():
        idle = resnet.network.layer1[1]
        idle.bn2.weight.zero_()
        idle.bn2.bias.zero_()
    whole = resnet.network(resnet.example(4)[0])
    options = PruneOptions(budget={"macs_ratio": 0.99}, loss="mse", samples=16, recalibrate_norms=False)
    pruned = prune(resnet, options, context)
    assert [(edit.kind, edit.layer) for edit in pruned.edits] == [("replace", "layer1.1")]
    torch.testing.assert_close(pruned.network(resnet.example(4)[0]), whole)


def test_without_blocks_only_channels_go(resnet, context):
    pruned = prune(resnet, PruneOptions(budget={"macs_ratio": 0.8}, samples=16, blocks=False), context)
    assert {edit.kind for edit in pruned.edits} == {"keep"}


def test_blocks_in_keep_stay(resnet, context):
    options = PruneOptions(budget={"macs_ratio": 0.7}, samples=16, keep=("layer1*", "layer2*"))
    pruned = prune(resnet, options, context)
    assert all(edit.layer.startswith("layer3") for edit in pruned.edits if edit.kind == "replace")


def test_a_budget_out_of_reach_says_what_is_left(resnet, context):
    with pytest.raises(PassError) as error:
        prune(resnet, PruneOptions(budget={"macs_ratio": 0.01}, samples=16, blocks=False), context)
    assert "macs_ratio 0.01 cannot be reached: at least 0." in error.value.what
    assert error.value.fix


def test_latency_without_a_device_is_refused(resnet, context):
    with pytest.raises(PassError, match="no device is named"):
        prune(resnet, PruneOptions(budget={"latency_ms": 1.0}), context)


def test_the_whole_network_is_measured_and_the_search_goes_on_until_it_is_fast_enough(resnet, context):
    whole = count_macs(resnet)

    def milliseconds(model):  # a fixed part that no table of layers knows: the table promises more than there is
        return 1.0 + 4.0 * count_macs(model) / whole

    pruned = prune(
        resnet, PruneOptions(budget={"latency_ms": 3.0}, samples=16), replace(context, measure=_timed(milliseconds))
    )
    assert milliseconds(pruned) <= 3.0
    pruned = prune(
        resnet, PruneOptions(budget={"latency_ratio": 0.8}, samples=16), replace(context, measure=_timed(milliseconds))
    )
    assert milliseconds(pruned) <= 0.8 * 5.0


def test_on_a_device_what_a_cut_saves_is_milliseconds_though_the_budget_is_of_macs(make_model, make_context, samples):
    class Two(nn.Module):
        """Two equal branches."""

        def __init__(self):
            super().__init__()
            self.slow, self.free = nn.Conv2d(1, 16, 3, 1, 1), nn.Conv2d(1, 16, 3, 1, 1)
            self.slow_out, self.free_out = nn.Conv2d(16, 8, 3, 1, 1), nn.Conv2d(16, 8, 3, 1, 1)
            self.head = nn.Linear(16, 4)

        def forward(self, x):
            slow, free = self.slow_out(F.relu(self.slow(x))), self.free_out(F.relu(self.free(x)))
            return self.head(torch.cat([slow, free], 1).mean((2, 3)))

    torch.manual_seed(0)
    model = make_model(Two())
    network = model.network
    with torch.no_grad():  # cutting `free` would do no damage at all, but its width is one that costs no time
        network.free_out.weight.zero_()
    slow = {tuple(p.shape) for p in (network.slow.weight,)}
    asked = []

    def milliseconds(model):
        shapes = [tuple(p.shape) for p in model.network.parameters() if p.dim() == 4]
        asked.append(shapes)
        return 1.0 + 0.1 * sum(math.prod(shape) for shape in shapes)

    options = PruneOptions(budget={"macs_ratio": 0.9}, samples=16, recalibrate_norms=False)
    plain = make_context(calibration=samples(32), channel_multiple=8)
    assert any(edit.layer == "free" for edit in prune(model, options, plain).edits)
    assert not asked
    prune(model, options, replace(plain, measure=_timed(milliseconds)))
    assert asked
    assert slow <= {shape for shapes in asked for shape in shapes}


def test_a_device_that_cannot_time_layers_leaves_the_budgets_own_quantity(resnet, context, caplog):
    def refuse(model):
        raise DeviceError("an engine is built on the board", "device orin", "another budget")

    caplog.set_level("INFO")
    options = PruneOptions(budget={"macs_ratio": 0.8}, samples=16)
    pruned = prune(resnet, options, replace(context, measure=refuse))
    assert count_macs(pruned) <= 0.8 * count_macs(resnet)
    assert any("not by time" in line for line in caplog.messages)


def test_divergence_is_zero_of_itself_and_kl_of_probabilities(make_model, samples):
    torch.manual_seed(1)
    model = make_model(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    given = samples(24)
    divergence = Divergence(model, given, "cross_entropy", recalibrate=True)
    assert divergence(model.network) == pytest.approx(0, abs=1e-7)
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with torch.no_grad():
        p, q = model.network(given.inputs[0]).softmax(1), other(given.inputs[0]).softmax(1)
    assert divergence(other) == pytest.approx((p * (p / q).log()).sum(1).mean().item(), rel=1e-5)
    numbers = Divergence(model, given, "mse", recalibrate=True)
    with torch.no_grad():
        a, b = model.network(given.inputs[0]), other(given.inputs[0])
    assert numbers(other) == pytest.approx(((a - b).square().mean() / a.var()).item(), rel=1e-5)


def test_a_shift_that_norms_take_out_is_no_damage_where_they_are_recalibrated(make_model, samples):
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))
    given = samples(64)
    with torch.no_grad():
        network.train()
        network[1].momentum = None
        network(given.inputs[0])
    model = make_model(network)
    shifted = apply_edits(network, [])
    with torch.no_grad():
        shifted[0].bias.add_(5)
    assert Divergence(model, given, "cross_entropy", recalibrate=True)(shifted) < 1e-3
    assert Divergence(model, given, "cross_entropy", recalibrate=False)(shifted) > 0.1
    assert shifted[1].momentum is None
    assert torch.equal(shifted[1].running_mean, network[1].running_mean)


def test_layers_alike_are_measured_once(resnet):
    asked = []

    def measure(model):
        asked.append(model)
        return _timed(lambda model: 2.0)(model)

    table = LatencyTable(measure)
    layers = timed_layers(resnet)
    assert table.total(resnet) == 2.0 * len(layers)
    assert len(layers) == 22  # 19 convolutions, 2 shortcuts, the linear layer
    assert 1 < len(asked) < len(layers)


def test_a_cell_with_states_is_a_layer_too():
    cell = nn.LSTMCell(3, 5)
    with pytest.raises(TypeError):
        alone(nn.Linear(3, 5), torch.zeros(1, 3), torch.zeros(1, 3))
    model = alone(cell, torch.zeros(1, 3))
    assert [spec.shape for spec in model.outputs] == [(1, 5), (1, 5)]


@pytest.mark.parametrize("method", ["search", "ranking"])
def test_what_went_is_recorded_as_the_network_now_is(method, resnet, context):
    told = []
    options = PruneOptions(budget={"macs_ratio": 0.6}, method=method, samples=16, keep=("layer2.0.conv2",))
    pruned = prune(resnet, options, replace(context, record=told.append))
    (row,) = told
    assert (row.method, row.budget_name, row.budget) == (method, "macs_ratio", 0.6)
    assert {edit.layer for edit in pruned.edits if edit.kind == "replace"} == set(row.blocks)
    for group in row.groups:
        layer = pruned.network.get_submodule(group.name)
        assert (len(layer.weight), len(resnet.network.get_submodule(group.name).weight)) == (group.after, group.before)
    assert "option keep" in row.whole["layer2.0.conv2"] or "keep" in " ".join(row.whole.values())
