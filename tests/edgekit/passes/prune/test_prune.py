import copy
import logging
import subprocess
import sys

import pytest
import torch
import torch_pruning
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.nets.cifar_resnet import resnet20
from edgekit.nets.count import count_macs
from edgekit.nets.edits import Keep, apply_edits
from edgekit.nets.mlperf_tiny import ds_cnn
from edgekit.nets.mobilenet import mobilenet_v2
from edgekit.nets.repvgg import repvgg_digits
from edgekit.passes.prune.groups import find_groups
from edgekit.passes.prune.importance import saliency, score_channels
from edgekit.passes.prune.prune import prune
from edgekit.passes.prune.widths import achievable_widths
from edgekit.passes.recalibrate import recalibrate_norms
from edgekit.schema.prune import PruneOptions


class Vgg(nn.Module):
    """Convolutions, then a flattened 2x2 map into two linear layers."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 16, 3, 2, 1)
        self.norm = nn.BatchNorm2d(16)
        self.b = nn.Conv2d(16, 24, 3, 2, 1)
        self.c = nn.Linear(24 * 4, 32)
        self.d = nn.Linear(32, 4)

    def forward(self, x):
        x = F.relu(self.b(F.relu(self.norm(self.a(x)))))
        return self.d(F.relu(self.c(x.flatten(1))))


class Dense(nn.Module):
    """Concatenation: the last convolution reads what three layers make."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 8, 3, 1, 1)
        self.b = nn.Conv2d(8, 16, 3, 1, 1)
        self.c = nn.Conv2d(24, 8, 3, 1, 1)
        self.norm = nn.BatchNorm2d(32)
        self.d = nn.Conv2d(32, 16, 1)
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        a = F.relu(self.a(x))
        ab = torch.cat([a, F.relu(self.b(a))], 1)
        abc = self.norm(torch.cat([ab, F.relu(self.c(ab))], 1))
        return self.fc(F.relu(self.d(abc)).mean((2, 3)))


SHAPES = {
    "vgg": (Vgg, (1, 1, 8, 8)),
    "dense": (Dense, (1, 1, 8, 8)),
    "resnet20": (resnet20, (1, 3, 32, 32)),
    "repvgg": (repvgg_digits, (1, 1, 8, 8)),
    "ds_cnn": (ds_cnn, (1, 1, 49, 10)),
    "mobilenet_v2": (lambda: mobilenet_v2(0.25, 10), (1, 3, 32, 32)),
}


@pytest.fixture
def build(make_model, train_norms):
    def make(name):
        factory, shape = SHAPES[name]
        torch.manual_seed(4)
        return make_model(train_norms(factory()), shape)

    return make


def _options(**given):
    return PruneOptions(**{"channel_ratio": 0.5, "recalibrate_norms": False, **given})


def _outputs(network, shape, batch=3):
    with torch.no_grad():
        return network(torch.randn(batch, *shape[1:], generator=torch.Generator().manual_seed(1)))


def _layer(network, edit):
    return network.get_submodule(edit.layer)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_cutting_is_zeroing_what_reads_the_cut_channels(name, build, make_context):
    model = build(name)
    pruned = prune(model, _options(), make_context())
    zeroed = copy.deepcopy(model.network)
    for edit in pruned.edits:
        if edit.side == "in":
            weight = _layer(zeroed, edit).weight
            gone = sorted(set(range(weight.shape[1])) - set(edit.indices))
            with torch.no_grad():
                weight[:, gone] = 0
    shape = SHAPES[name][1]
    expected = _outputs(zeroed, shape)
    assert not torch.allclose(expected, _outputs(model.network, shape), rtol=1e-3)
    torch.testing.assert_close(
        _outputs(pruned.network, shape), expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item()
    )
    for batch in (1, 2):
        assert _outputs(pruned.network, shape, batch).shape == (batch, expected.shape[1])


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_torch_pruning_itself_cuts_the_same_network(name, build, make_context):
    model = build(name)
    pruned = prune(model, _options(), make_context())
    theirs = copy.deepcopy(model.network)
    theirs.requires_grad_(True)
    graph = torch_pruning.DependencyGraph().build_dependency(theirs, model.example())
    kept = {(edit.layer, edit.side): set(edit.indices) for edit in pruned.edits}
    for group in find_groups(model).groups:
        gone = sorted(set(range(group.width)) - kept.get((group.root, "out"), set(range(group.width))))
        if gone:
            chosen = graph.get_pruning_group(
                theirs.get_submodule(group.root),
                torch_pruning.prune_conv_out_channels
                if isinstance(theirs.get_submodule(group.root), nn.Conv2d)
                else torch_pruning.prune_linear_out_channels,
                gone,
            )
            assert graph.check_pruning_group(chosen)
            chosen.prune()
    state, their_state = pruned.network.state_dict(), theirs.state_dict()
    assert state.keys() == their_state.keys()
    for key in state:
        assert torch.equal(state[key], their_state[key]), key
    counted, params = torch_pruning.utils.count_ops_and_params(pruned.network, pruned.example())
    assert params == sum(parameter.numel() for parameter in pruned.network.parameters())
    assert counted > 0


def test_parameters_by_hand(build, make_context):
    pruned = prune(build("vgg"), _options(), make_context())
    # half of 16, 24 and 32: a 1 x 8 x 9 + 8, norm 16, b 8 x 12 x 9 + 12, c 48 x 16 + 16, d 16 x 4 + 4
    by_hand = (72 + 8) + 16 + (864 + 12) + (768 + 16) + (64 + 4)
    assert sum(parameter.numel() for parameter in pruned.network.parameters()) == by_hand
    # a 4x4 map of 8, then 2x2 of 12, then the linear layers
    assert count_macs(pruned) == 16 * 72 + 4 * 864 + 768 + 64
    assert pruned.history == ("prune",)


@pytest.mark.parametrize("name", ["dense", "resnet20", "repvgg"])
@pytest.mark.parametrize("global_ranking", [True, False])
def test_macs_bound_is_met_with_widths_that_are_multiples(name, global_ranking, build, make_context, caplog):
    model = build(name)
    context = make_context(channel_multiple=8)
    options = PruneOptions(
        method="ranking", budget={"macs_ratio": 0.6}, global_ranking=global_ranking, recalibrate_norms=False
    )
    with caplog.at_level(logging.INFO):
        pruned = prune(model, options, context)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        pruned.network(*pruned.example())
    assert counter.get_total_flops() == 2 * count_macs(pruned)  # torch's own count
    assert 0.2 * count_macs(model) < count_macs(pruned) <= 0.6 * count_macs(model)
    said = {line.split()[1] for line in caplog.messages if "stays whole" in line}
    for edit in pruned.edits:
        if edit.side == "out" and isinstance(_layer(pruned.network, edit), nn.Conv2d | nn.Linear):
            assert len(edit.indices) % 8 == 0, edit.layer
            assert len(edit.indices) >= 0.25 * len(_layer(model.network, edit).weight)
            assert edit.layer not in said


def test_the_search_stops_at_the_first_width_that_meets_the_bound(build, make_context):
    model = build("resnet20")
    context = make_context()
    macs = [
        count_macs(
            prune(
                model,
                PruneOptions(method="ranking", budget={"macs_ratio": r}, multiple_of=1, recalibrate_norms=False),
                context,
            )
        )
        / count_macs(model)
        for r in (0.8, 0.5)
    ]
    assert 0.78 < macs[0] <= 0.8  # one channel of the widest group is less than two per cent
    assert 0.48 < macs[1] <= 0.5


def test_edits_replayed_in_a_new_process_give_the_same_bits(build, make_context, tmp_path):
    pruned = prune(build("repvgg"), _options(recalibrate_norms=True), make_context())
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        save_file({"x": x, "y": pruned.network(x)}, tmp_path / "feeds")
    save_file(pruned.network.state_dict(), tmp_path / "weights")
    (tmp_path / "edits.json").write_text("\n".join(edit.model_dump_json() for edit in pruned.edits))
    code = """
import sys, torch
from pathlib import Path
from safetensors.torch import load_file
from edgekit.nets.edits import Keep, apply_edits
from edgekit.nets.repvgg import repvgg_digits
folder = Path(sys.argv[1])
torch.set_num_threads(int(sys.argv[2]))
edits = [Keep.model_validate_json(line) for line in (folder / "edits.json").read_text().splitlines()]
network = apply_edits(repvgg_digits(), edits).eval()
network.load_state_dict(load_file(folder / "weights"))
feeds = load_file(folder / "feeds")
with torch.no_grad():
    print(torch.equal(network(feeds["x"]), feeds["y"]))
"""
    command = [sys.executable, "-c", code, str(tmp_path), str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_the_given_model_stays_and_fixed_layers_stay_fixed(build, make_context):
    model = build("resnet20")
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    pruned = prune(model, _options(recalibrate_norms=True), make_context(calibration=_pictures()))
    after = model.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for network in (model.network, pruned.network):
        fixed = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
        assert fixed == ["layer2.0.shortcut.weight", "layer3.0.shortcut.weight"]
    assert pruned.network.layer2[0].shortcut.weight.shape[:2] == (16, 8)
    assert not pruned.network.training
    assert all(layer.momentum == 0.1 for layer in pruned.network.modules() if isinstance(layer, nn.BatchNorm2d))


def _pictures(count=40):
    from edgekit.data.samples import Samples

    draw = torch.Generator().manual_seed(0)
    return Samples((torch.randn(count, 3, 32, 32, generator=draw),), torch.arange(count) % 10)


def test_the_same_cut_again_is_the_same(build, make_context):
    options = PruneOptions(method="ranking", budget={"macs_ratio": 0.5}, importance="taylor")
    context = make_context()
    first, second = (prune(build("repvgg"), options, context) for _ in range(2))
    assert first.edits == second.edits


def test_planted_channels_are_the_ones_that_go(build, make_context):
    model = build("vgg")
    planted = [1, 4, 7, 10]
    with torch.no_grad():
        for tensor in (model.network.a.weight, model.network.norm.weight):
            tensor[planted] *= 0.01
        model.network.b.weight[:, planted] *= 0.01
    pruned = prune(
        model, PruneOptions(method="ranking", budget={"macs_ratio": 0.9}, recalibrate_norms=False), make_context()
    )
    edit = next(edit for edit in pruned.edits if (edit.layer, edit.side) == ("a", "out"))
    assert sorted(set(range(16)) - set(edit.indices)) == planted
    assert edit in prune(model, _options(channel_ratio=0.25, importance="bn_scale"), make_context()).edits
    # half, since a channel that never fires is worth as little by its gradient
    half = prune(model, _options(importance="taylor"), make_context())
    kept = next(edit.indices for edit in half.edits if (edit.layer, edit.side) == ("a", "out"))
    assert not set(kept) & set(planted)


def test_widths_are_not_rounded_to_nothing_nor_skipped():
    assert achievable_widths(12, 8, 0.5) == [12, 8]
    assert achievable_widths(12, 8, 0.7) == [12]  # 8 would be fewer than 70 %
    assert achievable_widths(64, 16, 0.25) == [64, 48, 32, 16]
    assert achievable_widths(20, 8, 0.25) == [20, 16, 8]
    assert achievable_widths(8, 8, 0.1) == [8]
    assert achievable_widths(5, 1, 0.6) == [5, 4, 3]


def test_kept_counts_are_rounded_up_and_what_stays_whole_is_named(build, make_context, caplog):
    with caplog.at_level(logging.INFO):
        pruned = prune(build("dense"), _options(channel_ratio=0.4, min_keep_ratio=0.6), make_context())
    assert pruned.network.b.out_channels == 12  # 9.6 is rounded up to a multiple of 4
    assert pruned.network.a.out_channels == 8
    assert any(line.startswith("prune: a stays whole: no multiple of 4 below its 8") for line in caplog.messages)
    assert any(line.startswith("prune: fc stays whole: its channels are an output") for line in caplog.messages)


def test_a_cut_that_changes_nothing_is_refused(build, make_context):
    with pytest.raises(PassError) as error:
        prune(build("vgg"), _options(multiple_of=64), make_context())
    assert "64" in error.value.what


@pytest.mark.parametrize("global_ranking", [True, False])
def test_a_bound_that_cannot_be_met_says_what_can(global_ranking, build, make_context):
    options = PruneOptions(
        method="ranking", budget={"macs_ratio": 0.05}, min_keep_ratio=0.5, global_ranking=global_ranking
    )
    with pytest.raises(PassError) as error:
        prune(build("vgg"), options, make_context())
    model = build("vgg")
    least = count_macs(prune(model, _options(), make_context())) / count_macs(model)
    assert f"at least {least:.3f}" in error.value.what


def test_layers_in_keep_stay_whole(build, make_context):
    model = build("resnet20")
    pruned = prune(model, _options(keep=("layer1.*", "layer3.0.conv1")), make_context())
    widths = {
        name: layer.out_channels for name, layer in pruned.network.named_modules() if isinstance(layer, nn.Conv2d)
    }
    assert widths["conv1"] == widths["layer1.0.conv1"] == widths["layer1.2.conv2"] == 16
    assert (widths["layer3.0.conv1"], widths["layer3.1.conv1"], widths["layer2.0.conv2"]) == (64, 32, 16)
    with pytest.raises(PassError) as error:
        prune(model, _options(keep=("layer1.0.conv3",)), make_context())
    assert "did you mean 'layer1.0.conv" in error.value.fix


class _Awkward(nn.Module):
    """What a cut must go around: sums over channels, unknown operators, weights that layers share, two outputs."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 16, 3, 1, 1)
        self.b = nn.Conv2d(16, 16, 1)
        self.c = nn.Conv2d(17, 16, 1)
        self.d = nn.Conv2d(16, 16, 1)
        self.shared = nn.Conv2d(16, 16, 1)
        self.again = nn.Conv2d(16, 16, 1)
        self.again.weight = self.shared.weight
        self.free = nn.Conv2d(16, 16, 1)
        self.rnn = nn.LSTM(16, 8, batch_first=True, bidirectional=True)
        self.first = nn.Linear(16, 3)
        self.second = nn.Linear(16, 2)

    def forward(self, x):
        x = self.a(x).softmax(1)
        x = self.b(x)
        x = self.c(torch.cat([x, x.mean(1, keepdim=True)], 1))
        x = torch.roll(self.d(x), 1, 1)
        x = self.free(self.again(F.relu(self.shared(x))))
        x = self.rnn(x.flatten(2).transpose(1, 2))[0][:, -1]
        return self.first(x), self.second(x)


def test_what_cannot_be_cut_is_left_with_a_reason(make_context):
    from edgekit.nets.model import Model
    from edgekit.schema.recipe import ModelSource
    from edgekit.schema.tensors import InputSpec

    torch.manual_seed(0)
    source = ModelSource(factory="tests:awkward", inputs=(InputSpec(name="x", shape=(1, 1, 8, 8)),))
    model = Model(_Awkward().eval(), source, ())
    left = find_groups(model).left
    for root, reason in {
        "a": "softmax runs over them",
        "b": "mean runs over them",
        "d": "operator roll is not one that channels are followed through",
        "shared": "layers share the tensor shared.weight",
        "free": "operator lstm is not one that channels are followed through",
        "first": "output of the network",
        "second": "output of the network",
    }.items():
        assert reason in left.get(root, "not found"), (root, left)
    pruned = prune(model, _options(), make_context())
    assert {edit.layer for edit in pruned.edits} == {"c", "d"}


class _Halves(nn.Module):
    """Two halves of one layer's channels are added: a channel takes its partner along."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 16, 1)
        self.b = nn.Conv2d(8, 16, 1)
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        one, two = self.a(x).chunk(2, 1)
        return self.fc(self.b(one + two).mean((2, 3)))


def test_channels_that_depend_on_others_of_their_own_layer_go_together(make_model, make_context):
    torch.manual_seed(0)
    pruned = prune(make_model(_Halves()), _options(), make_context())
    kept = {(edit.layer, edit.side): edit.indices for edit in pruned.edits}
    assert len(kept["b", "in"]) == 4
    assert kept["a", "out"] == (*kept["b", "in"], *(index + 8 for index in kept["b", "in"]))
    assert len(kept["b", "out"]) == 8


class _StaticShape(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 8, 3, 1, 1)
        self.b = nn.Conv2d(8, 8, 3, 1, 1)
        self.fc = nn.Linear(8 * 64, 4)

    def forward(self, x):
        x = F.relu(self.b(F.relu(self.a(x))))
        return self.fc(x.view(-1, 8 * 64))


def test_a_shape_written_into_the_network_keeps_what_it_counts(make_model, make_context):
    torch.manual_seed(0)
    model = make_model(_StaticShape())
    assert find_groups(model).left["b"].startswith("the network does not run without some of its channels: ")
    pruned = prune(model, _options(), make_context())
    assert (pruned.network.a.out_channels, pruned.network.b.out_channels) == (4, 8)


def _their_group(model, root):
    network = model.network
    graph = torch_pruning.DependencyGraph().build_dependency(network, model.example())
    layer = network.get_submodule(root)
    cut = (
        torch_pruning.prune_linear_out_channels
        if isinstance(layer, nn.Linear)
        else torch_pruning.prune_conv_out_channels
    )
    return graph.get_pruning_group(layer, cut, list(range(layer.weight.shape[0])))


@pytest.mark.parametrize(
    ("importance", "theirs"),
    [
        ("magnitude", torch_pruning.importance.GroupMagnitudeImportance(p=2)),
        ("bn_scale", torch_pruning.importance.BNScaleImportance()),
    ],
)
@pytest.mark.parametrize("name", ["resnet20", "repvgg", "vgg", "dense"])
def test_scores_are_those_of_torch_pruning(name, importance, theirs, build, samples):
    model = build(name)
    model.network.requires_grad_(True)
    saliencies = saliency(model.network, importance, samples(4))
    compared = 0
    for group in find_groups(model).groups:
        expected, scores = theirs(_their_group(model, group.root)), score_channels(group, saliencies)
        assert (expected is None) == (scores is None)
        if scores is not None:
            torch.testing.assert_close(scores.float(), expected, rtol=1e-4, atol=1e-6)
            compared += 1
    assert compared > 0


def test_taylor_scores_without_norms_are_those_of_torch_pruning(build, samples):
    model = build("dense")
    model.network.norm = nn.Identity()
    data = samples(24)
    saliencies = saliency(model.network, "taylor", data)
    assert all(parameter.grad is None for parameter in model.network.parameters())
    F.cross_entropy(model.network(data.inputs[0]), data.labels).backward()
    for group in find_groups(model).groups:
        expected = torch_pruning.importance.GroupTaylorImportance()(_their_group(model, group.root))
        torch.testing.assert_close(score_channels(group, saliencies).float(), expected, rtol=1e-4, atol=1e-6)


def test_taylor_counts_norms_and_is_a_mean_over_batches(build, samples):
    model = build("vgg")
    data = samples(64)
    saliencies = saliency(model.network, "taylor", data)
    assert "norm" in saliencies
    gradients = []
    for start in (0, 32):
        loss = F.cross_entropy(model.network(data.inputs[0][start : start + 32]), data.labels[start : start + 32])
        gradients.append(torch.autograd.grad(loss, model.network.norm.weight)[0])
    weight = model.network.norm.weight.detach()
    expected = sum((weight * gradient).abs() for gradient in gradients) / 2
    torch.testing.assert_close(saliencies["norm"], expected)


def test_taylor_takes_the_loss_that_is_named(build, samples):
    model = build("vgg")
    labels = torch.rand((32, 4), generator=torch.Generator().manual_seed(0))
    data = Samples((samples(32).inputs[0],), labels)
    found = saliency(model.network, "taylor", data, "mse")
    gradient = torch.autograd.grad(F.mse_loss(model.network(data.inputs[0]), labels), model.network.norm.weight)[0]
    torch.testing.assert_close(found["norm"], (model.network.norm.weight.detach() * gradient).abs())
    with pytest.raises(PassError) as caught:
        saliency(model.network, "taylor", data)
    assert (caught.value.where, "loss: mse" in caught.value.fix) == (
        "step prune, importance taylor, loss cross_entropy",
        True,
    )


def test_a_group_of_zeros_scores_zero_and_not_nan(build, samples, make_context):
    model = build("vgg")
    with torch.no_grad():
        for tensor in (model.network.a.weight, model.network.norm.weight, model.network.b.weight):
            tensor.zero_()
    group = next(group for group in find_groups(model).groups if group.root == "a")
    scores = score_channels(group, saliency(model.network, "magnitude", samples(2)))
    assert scores.tolist() == [0.0] * 16
    pruned = prune(
        model, PruneOptions(method="ranking", budget={"macs_ratio": 0.9}, recalibrate_norms=False), make_context()
    )
    assert pruned.network.a.out_channels < 16


def test_weights_that_are_not_finite_are_named(build, make_context):
    model = build("vgg")
    with torch.no_grad():
        model.network.c.weight[0, 0] = float("nan")
    with pytest.raises(PassError) as error:
        prune(model, _options(), make_context())
    assert error.value.where in ("layer b", "layer c")


def test_recalibrated_statistics_are_means_over_the_samples(samples):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Dropout(0.5), nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)
    )
    data = samples(64)
    assert recalibrate_norms(network, data) == 2
    with torch.no_grad():
        first = network[1](data.inputs[0])  # dropout was off
        second = network[4](F.relu(F.batch_norm(first, None, None, network[2].weight, network[2].bias, training=True)))
    for norm, seen in ((network[2], first), (network[5], second)):
        torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var, seen.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
        assert norm.momentum == 0.1
    assert not any(layer.training for layer in network.modules())


def test_recalibration_of_many_batches_weighs_each_sample_the_same(samples):
    network, data = nn.BatchNorm2d(1), samples(130)  # not 64 + 64 + 2
    recalibrate_norms(network, data)
    assert network.num_batches_tracked == 3
    torch.testing.assert_close(network.running_mean, data.inputs[0].mean((0, 2, 3)), rtol=0, atol=1e-3)


def test_recalibration_needs_two_samples(samples):
    with pytest.raises(PassError) as error:
        recalibrate_norms(nn.BatchNorm2d(1), samples(1))
    assert error.value.where == "option recalibrate_norms"


def test_pruning_recalibrates_when_asked(build, make_context):
    model, context = build("repvgg"), make_context()
    plain = prune(model, _options(), context)
    again = prune(model, _options(recalibrate_norms=True), context)
    assert plain.edits == again.edits
    expected = apply_edits(model.network, plain.edits)
    assert all(isinstance(edit, Keep) for edit in plain.edits)
    torch.testing.assert_close(plain.network.blocks[0].bn3.running_mean, expected.blocks[0].bn3.running_mean)
    recalibrate_norms(expected, context.splits.calibration)
    assert torch.equal(again.network.blocks[4].bn3.running_var, expected.blocks[4].bn3.running_var)
    assert not torch.equal(plain.network.blocks[4].bn3.running_var, expected.blocks[4].bn3.running_var)
