import logging

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.nets.blocks import RepVGGBlock
from edgekit.nets.cifar_resnet import resnet20
from edgekit.nets.edits import apply_edits
from edgekit.nets.mobilenet import mobilenet_v1
from edgekit.nets.repvgg import repvgg_digits
from edgekit.passes import reparam as reparam_module
from edgekit.passes.reparam import reparam
from edgekit.schema.passes import ReparamOptions


def _norms(network):
    return [name for name, layer in network.named_modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


def _seeded(factory, *args, **kwargs):
    torch.manual_seed(1)
    return factory(*args, **kwargs)


def _assert_same_function(old, new, shape):
    x = torch.randn(3, *shape[1:], generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        torch.testing.assert_close(new(x), old(x), rtol=1e-4, atol=1e-4)


def test_repvgg_becomes_one_convolution_a_block(make_model, make_context, train_norms):
    model = make_model(train_norms(_seeded(repvgg_digits)))
    merged = reparam(model, ReparamOptions(), make_context())
    _assert_same_function(model.network, merged.network, (1, 1, 8, 8))
    blocks = [layer for layer in merged.network.modules() if isinstance(layer, RepVGGBlock)]
    assert len(blocks) == 5
    for block in blocks:
        assert {name for name, _ in block.named_children()} == {"conv", "activation"}
    # 3x3 kernels and biases of widths 1-16-32-32-64-64, then 64 x 10 and its bias
    widths = [(1, 16), (16, 32), (32, 32), (32, 64), (64, 64)]
    by_hand = sum(9 * i * o + o for i, o in widths) + 650
    assert sum(parameter.numel() for parameter in merged.network.parameters()) == by_hand
    assert merged.history == ("reparam",)
    assert len(_norms(model.network)) == 12  # the given model is as it was: 2 a block, and an identity in two


@pytest.mark.parametrize(
    ("factory", "shape", "norms"), [(resnet20, (1, 3, 32, 32), 19), (mobilenet_v1, (1, 3, 32, 32), 27)]
)
def test_every_norm_of_a_functional_network_is_folded(
    factory, shape, norms, make_model, make_context, train_norms, samples
):
    arguments = {} if factory is resnet20 else {"width": 0.25}
    model = make_model(train_norms(_seeded(factory, **arguments)), shape)
    context = make_context(calibration=samples(8, shape=shape[1:]))
    folded = reparam(model, ReparamOptions(), context)
    assert len(_norms(model.network)) == norms
    assert _norms(folded.network) == []
    _assert_same_function(model.network, folded.network, shape)
    convolutions = [
        layer
        for name, layer in folded.network.named_modules()
        if "shortcut" not in name and isinstance(layer, nn.Conv2d)
    ]
    assert all(layer.bias is not None for layer in convolutions)


def test_edits_replayed_on_a_fresh_network_give_the_same_bits(make_model, make_context, train_norms):
    model = make_model(train_norms(_seeded(repvgg_digits)))
    merged = reparam(model, ReparamOptions(), make_context())
    fresh = apply_edits(_seeded(repvgg_digits), merged.edits).eval()
    fresh.load_state_dict(merged.network.state_dict())
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(fresh(x), merged.network(x))


def test_doing_it_again_changes_nothing(make_model, make_context, train_norms):
    once = reparam(make_model(train_norms(_seeded(repvgg_digits))), ReparamOptions(), make_context())
    twice = reparam(once, ReparamOptions(), make_context())
    assert twice.edits == once.edits
    assert all(torch.equal(a, b) for a, b in zip(once.network.parameters(), twice.network.parameters(), strict=True))


class _Mixed(nn.Module):
    """Norms in every position: foldable, after a linear layer, read twice, before a layer, shared."""

    def __init__(self):
        super().__init__()
        self.norm_a = nn.BatchNorm2d(6)  # names and order of definition tell nothing of the order of execution
        self.norm_b = nn.BatchNorm2d(6)
        self.first = nn.BatchNorm2d(1)
        self.shared = nn.BatchNorm2d(6)
        self.late = nn.Conv2d(6, 6, 3, padding="same", groups=2)
        self.early = nn.Conv2d(1, 6, 3, stride=2, padding=1, bias=False)
        self.other = nn.Conv2d(6, 6, 1)
        self.linear = nn.Linear(6, 5, bias=False)
        self.norm_c = nn.BatchNorm1d(5)
        self.loose = nn.BatchNorm2d(6, track_running_stats=False)

    def forward(self, x):
        x = self.early(self.first(x))
        x = F.relu(self.norm_a(x) + x)  # the convolution's output is read twice
        x = F.relu(self.norm_b(self.late(x)))
        x = F.relu(self.shared(self.other(x))) + self.shared(x)
        return self.norm_c(self.linear(self.loose(x).mean((2, 3))))


def test_only_norms_that_alone_read_a_layer_are_folded_and_the_others_are_named(
    make_model, make_context, train_norms, caplog
):
    model = make_model(train_norms(_seeded(_Mixed)))
    with caplog.at_level(logging.INFO):
        folded = reparam(model, ReparamOptions(), make_context())
    assert sorted(_norms(folded.network)) == ["first", "loose", "norm_a", "shared"]
    _assert_same_function(model.network, folded.network, (1, 1, 8, 8))
    for name, reason in (
        ("norm_a", "used elsewhere"),
        ("first", "no convolution"),
        ("shared", "more than one place"),
        ("loose", "no running statistics"),
    ):
        assert any(f"norm {name} stays" in line and reason in line for line in caplog.messages), name


def test_a_norm_in_training_mode_is_refused(make_model, make_context, train_norms):
    model = make_model(train_norms(_seeded(resnet20)), (1, 3, 32, 32))
    model.network.layer1[0].bn2.train()
    with pytest.raises(PassError) as error:
        reparam(model, ReparamOptions(), make_context())
    assert error.value.where == "layer layer1.0.bn2"


def _reflect(block):
    block.conv3 = nn.Conv2d(16, 32, 3, 2, 1, bias=False, padding_mode="reflect")


def _dilate(block):
    block.conv3 = nn.Conv2d(16, 32, 3, 2, 2, dilation=2, bias=False)


def _batch_statistics(block):
    block.bn1 = nn.BatchNorm2d(32, track_running_stats=False)


def _activation_inside(block):
    block.conv1 = nn.Sequential(block.conv1, nn.ReLU())


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_reflect, "padding mode"),
        (_dilate, "padding"),
        (_batch_statistics, "bn1 keeps no running"),
        (_activation_inside, "Sequential"),
    ],
)
def test_a_block_that_is_no_linear_map_is_refused(spoil, reason, make_model, make_context):
    network = _seeded(repvgg_digits)
    spoil(network.blocks[1])
    with pytest.raises(PassError) as error:
        reparam(make_model(network), ReparamOptions(), make_context())
    assert error.value.where == "layer blocks.1"
    assert reason in error.value.what


def test_a_fold_that_forgets_a_term_is_caught_and_named(make_model, make_context, train_norms, monkeypatch):
    model = make_model(train_norms(_seeded(resnet20)), (1, 3, 32, 32))
    right = reparam_module.fold_batch_norm

    def forgets_the_bias(weight, bias, norm):
        folded, shift = right(weight, bias, norm)
        return folded, shift if weight.shape[0] != 32 else torch.zeros_like(shift)

    monkeypatch.setattr(reparam_module, "fold_batch_norm", forgets_the_bias)
    with pytest.raises(PassError) as error:
        reparam(model, ReparamOptions(), make_context())
    assert error.value.where == "step reparam, layer layer2.0.conv1 and layer2.0.bn1"


def test_float32_rounding_beyond_the_tolerance_is_refused_with_the_error(make_model, make_context, train_norms):
    model = make_model(train_norms(_seeded(repvgg_digits)))
    with pytest.raises(PassError) as error:
        reparam(model, ReparamOptions(tolerance=1e-12), make_context())
    assert "float32" in error.value.what
    assert "blocks.0" in error.value.where


def test_a_kernel_larger_than_an_ordinary_test_picture_is_checked_too(make_model, make_context, train_norms):
    model = make_model(nn.Sequential(nn.Conv2d(1, 2, (20, 4), bias=False), nn.BatchNorm2d(2)), (1, 1, 24, 10))
    train_norms(model.network)
    calibration = Samples((torch.randn(4, 1, 24, 10),), torch.zeros(4, dtype=torch.int64))
    merged = reparam(model, ReparamOptions(), make_context(calibration=calibration))
    x = model.example(2)[0]
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in merged.network.modules())
    torch.testing.assert_close(merged.network(x), model.network(x), rtol=1e-4, atol=1e-5)
