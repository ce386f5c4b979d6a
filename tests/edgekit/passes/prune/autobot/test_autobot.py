"""AutoBot as the step of a recipe calls it."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.formats.onnx.export import export_onnx
from edgekit.nets.count import count_macs, count_params
from edgekit.nets.edits import apply_edits
from edgekit.passes.prune.cost import count_bytes
from edgekit.passes.prune.cut import keep_edits
from edgekit.passes.prune.groups import find_groups
from edgekit.passes.prune.prune import prune
from edgekit.passes.train import train
from edgekit.schema.prune import PruneOptions
from edgekit.schema.recipe import Export
from edgekit.schema.train import TrainOptions


class Residual(nn.Module):
    """A stem and two residual blocks over one set of channels; every block has channels of its own."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, 1, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(12, 16, 3, 1, 1, bias=False),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.Conv2d(16, 12, 3, 1, 1, bias=False),
                nn.BatchNorm2d(12),
            )
            for _ in range(2)
        )
        self.head = nn.Linear(12 * 8, 8)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = torch.relu(x + block(x))
        return self.head(x.mean(3).flatten(1))


@pytest.fixture
def noisy(samples):
    """Stripes of eight classes under noise, so that no handful of channels is enough."""

    def draw(count, seed=0):
        clear = samples(count, classes=8, seed=seed)
        noise = torch.randn(clear.inputs[0].shape, generator=torch.Generator().manual_seed(seed + 100))
        return Samples((clear.inputs[0] + 1.5 * noise,), clear.labels)

    return draw


PLANTED = (1, 4, 7, 10)


@pytest.fixture(scope="module")
def weights():
    """What the first test's training leaves, for the others."""
    return {}


@pytest.fixture
def trained(make_model, make_context, noisy, weights, tmp_path):
    torch.manual_seed(3)
    model = make_model(Residual())
    if not weights:
        options = TrainOptions(epochs=3, batch_size=32, learning_rate=0.05)
        context = make_context(train=noisy(256), folder=tmp_path / "trained")
        weights.update(train(model, options, context).network.state_dict())
    model.network.load_state_dict(weights)
    with torch.no_grad():  # loud channels that nothing listens to: largest by magnitude, and worth nothing
        block = model.network.blocks[0]
        block[0].weight[list(PLANTED)] *= 30
        block[1].weight[list(PLANTED)] *= 30
        block[3].weight[:, list(PLANTED)] *= 1e-4
    return model


def _options(**given):
    options = {"steps": 30, "batch_size": 32, **given.pop("autobot", {})}
    return PruneOptions(
        **{"budget": {"macs_ratio": 0.5}, "method": "autobot", "recalibrate_norms": False, "autobot": options, **given}
    )


def _top1(network, data):
    with torch.no_grad():
        return (network(data.inputs[0]).argmax(1) == data.labels).float().mean().item()


def _random_cut(model, kept, seed):
    generator = torch.Generator().manual_seed(seed)
    groups = find_groups(model).groups
    removed = {
        group.root: sorted(torch.randperm(group.width, generator=generator)[kept[group.root] :].tolist())
        for group in groups
    }
    return apply_edits(model.network, keep_edits(model, groups, removed))


def test_it_keeps_what_matters_at_the_budget(trained, make_context, noisy):
    context = make_context(train=noisy(256))
    options = _options(budget={"macs_ratio": 0.3}, multiple_of=1, min_keep_ratio=0.01, autobot={"steps": 60})
    pruned = prune(trained, options, context)
    assert 0.29 * count_macs(trained) < count_macs(pruned) <= 0.3 * count_macs(trained)
    edits = {(edit.layer, edit.side): edit.indices for edit in pruned.edits}
    assert not set(edits["blocks.0.0", "out"]) & set(PLANTED)
    assert edits["stem.0", "out"] == edits["blocks.0.3", "out"] == edits["blocks.1.3", "out"]  # one vector a stage
    for edit in pruned.edits:  # survivors are cut out as they are
        axis = 0 if edit.side == "out" else 1
        assert pruned.network.get_submodule(edit.layer).weight.shape[axis] == len(edit.indices)
    kept_rows = torch.tensor(edits["blocks.0.0", "out"])
    kept_columns = torch.tensor(edits["blocks.0.0", "in"])
    assert torch.equal(
        pruned.network.blocks[0][0].weight, trained.network.blocks[0][0].weight[kept_rows][:, kept_columns]
    )
    test = noisy(300, seed=9)
    kept = {group.root: len(edits[group.root, "out"]) for group in find_groups(trained).groups}
    by_chance = [_top1(_random_cut(trained, kept, seed), test) for seed in range(5)]
    assert _top1(trained.network, test) > 0.8
    assert _top1(pruned.network, test) > sum(by_chance) / 5 + 0.1


def test_the_exported_network_is_smaller_and_says_the_same(trained, make_context, noisy, tmp_path):
    pruned = prune(trained, _options(), make_context(train=noisy(256), channel_multiple=4))
    files = [export_onnx(model, "float", tmp_path, name, Export()) for model, name in ((trained, "a"), (pruned, "b"))]
    sizes = [file.path.stat().st_size for file in files]
    assert sizes[1] < 0.75 * sizes[0]
    exported = onnx.load(files[1].path)
    kernels = {
        tuple(initializer.dims): initializer.name
        for initializer in exported.graph.initializer
        if len(initializer.dims) == 4
    }
    convs = {tuple(m.weight.shape) for m in pruned.network.modules() if isinstance(m, nn.Conv2d)}
    assert set(kernels) == convs
    assert all(shape[0] % 4 == 0 for shape in convs)
    assert not any(node.op_type == "Sigmoid" for node in exported.graph.node)  # gates are gone
    (x,) = pruned.example()
    session = onnxruntime.InferenceSession(str(files[1].path), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(output, pruned.network(x).numpy(), rtol=1e-4, atol=1e-4)


def test_the_same_seed_cuts_the_same_and_the_given_model_stays(trained, make_context, noisy, tmp_path, caplog):
    before = {name: tensor.clone() for name, tensor in trained.network.state_dict().items()}
    options = _options(autobot={"steps": 10, "split": "calibration"})
    with caplog.at_level(logging.INFO):
        first, second = (prune(trained, options, make_context(folder=tmp_path / name)) for name in "ab")
    assert first.edits == second.edits
    after = trained.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in trained.network.parameters())
    assert all(parameter.requires_grad for parameter in first.network.parameters())
    assert any(line.startswith("prune: gates sum to 0.") for line in caplog.messages)


def test_blocks_of_channels_that_go_together_are_trained_to_go(trained, make_context, noisy, tmp_path):
    top1, test = {}, noisy(300, seed=9)
    for name, block_steps in (("rounded", 0), ("blocks", 30)):
        told = []
        context = make_context(
            train=noisy(256),
            folder=tmp_path / name,
            progress=lambda done, total, note="", told=told: told.append(note.split(",")[0]),
        )
        pruned = prune(trained, _options(multiple_of=4, autobot={"block_steps": block_steps}), context)
        assert told == ["gates"] * 30 + ["blocks"] * block_steps
        widths = {layer.out_channels for layer in pruned.network.modules() if isinstance(layer, nn.Conv2d)}
        assert all(width % 4 == 0 for width in widths)
        assert count_macs(pruned) <= 0.5 * count_macs(trained)
        top1[name] = _top1(pruned.network, test)
    assert top1["blocks"] >= top1["rounded"] - 0.02, top1


def _millis(model):
    """Pretended: 0.01 ms a layer, and what it computes; the whole network takes 0.1 ms more than its layers."""
    layers = sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in model.network.modules())
    ms = 0.01 * layers + count_macs(model) / 1e6 + (0.1 if layers > 1 else 0.0)
    return SimpleNamespace(summary=SimpleNamespace(p50_ms=ms))


@pytest.mark.parametrize(
    ("budget", "quantity"),
    [
        ({"params_ratio": 0.5}, lambda model: count_params(model.network)),
        ({"size_ratio": 0.5}, count_bytes),
        ({"latency_ratio": 0.8}, lambda model: _millis(model).summary.p50_ms),
    ],
)
def test_a_budget_of_another_quantity_is_met(budget, quantity, trained, make_context, noisy):
    measured = []

    def measure(model):
        measured.append(model)
        return _millis(model)

    context = replace(make_context(train=noisy(256), channel_multiple=2), measure=measure)
    pruned = prune(trained, _options(budget=budget, autobot={"block_steps": 20}), context)
    share = quantity(pruned) / quantity(trained)
    limit = next(iter(budget.values()))
    assert limit - 0.08 < share <= limit
    alone = [model for model in measured if len(list(model.network.children())) == 1]
    assert bool(measured) == ("latency_ratio" in budget)
    if measured:  # 3 of the first, 9 of each convolution of the blocks, of which they share one, 3 of the last layer
        assert len(alone) == 3 + 9 + 9 - 1 + 3
        assert 2 <= len(measured) - len(alone) <= 6  # the whole network, before and after


def test_a_network_that_is_slower_than_its_layers_is_cut_deeper(trained, make_context, noisy, caplog):
    def measure(model):
        convolutions = [layer for layer in model.network.modules() if isinstance(layer, nn.Conv2d)]
        macs = count_macs(model) / 1e6
        ms = macs if len(convolutions) < 2 else 1 + macs**0.5  # falls far less than the sum of layers
        return SimpleNamespace(summary=SimpleNamespace(p50_ms=ms))

    context = replace(make_context(train=noisy(256)), measure=measure)
    with caplog.at_level(logging.INFO):
        pruned = prune(trained, _options(budget={"latency_ratio": 0.8}, multiple_of=1), context)
    assert any("going on" in line for line in caplog.messages)
    assert measure(pruned).summary.p50_ms <= 0.8 * measure(trained).summary.p50_ms


def test_latency_without_a_device_is_refused_before_gates_are_trained(trained, make_context, noisy):
    def told(*_):
        raise AssertionError("nothing is trained")

    with pytest.raises(PassError) as caught:
        prune(trained, _options(budget={"latency_ms": 1}), make_context(train=noisy(64), progress=told))
    assert "--device" in caught.value.fix


def test_without_a_training_split_it_says_what_to_do(trained, make_context):
    with pytest.raises(PassError) as caught:
        prune(trained, _options(), make_context())
    assert caught.value.where == "step prune, method autobot"
    assert "split: calibration" in caught.value.fix


def test_a_bound_that_cannot_be_met_is_refused(trained, make_context, noisy):
    options = _options(budget={"macs_ratio": 0.02}, min_keep_ratio=0.5, autobot={"steps": 10})
    with pytest.raises(PassError) as caught:
        prune(trained, options, make_context(train=noisy(64)))
    assert "cannot be reached" in caught.value.what
