import pytest
import torch
from torch.nn import functional as F

from edgekit.data.metrics.ranking import top1
from edgekit.data.splits import find_data
from edgekit.errors import ModelError
from edgekit.nets.cifar_resnet import option_a_shortcut, resnet20, resnet56
from edgekit.nets.load import build
from edgekit.schema.recipe import Checkpoint, ModelSource
from edgekit.schema.tensors import InputSpec

FIXED = 16 * 32 + 32 * 64  # the two 1x1 shortcuts


def source(data_folder, **changes):
    checkpoint = {
        "path": str(data_folder / "weights" / "cifar10_resnet20-12fca82f.th"),
        "key": "state_dict",
        "strip_prefix": "module.",
        "sha256": "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8",
        "ignore_missing": ("*.shortcut.weight",),
    }
    return ModelSource(
        factory="edgekit.nets.cifar_resnet:resnet20",
        inputs=(InputSpec(name="image", shape=(1, 3, 32, 32)),),
        checkpoint=Checkpoint(**(checkpoint | changes)),
    )


@pytest.mark.parametrize(("channels_in", "channels_out"), [(16, 32), (5, 9)])
def test_the_shortcut_is_slicing_and_zero_padding(channels_in, channels_out):
    x = torch.randn(2, channels_in, 6, 6, generator=torch.Generator().manual_seed(0))
    pad = (channels_out - channels_in) // 2
    wanted = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, pad, channels_out - channels_in - pad))
    shortcut = option_a_shortcut(channels_in, channels_out, stride=2)
    assert torch.equal(shortcut(x), wanted)
    assert not shortcut.weight.requires_grad


@pytest.mark.parametrize(("factory", "published"), [(resnet20, 269_722), (resnet56, 853_018)])
def test_parameters_as_published_without_the_fixed_shortcuts(factory, published):
    network = factory()
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == published
    assert sum(p.numel() for p in network.parameters()) == published + FIXED


def test_pretrained_resnet20_is_as_accurate_as_measured(data_folder, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", str(data_folder))
    network = build(source(data_folder)).network
    test = find_data("cifar10").test.head(1000)
    with torch.no_grad():
        assert top1(network(test.inputs[0]).numpy(), test.labels.numpy()) == pytest.approx(0.915, abs=0.001)


def test_shortcuts_that_the_file_lacks_must_be_declared(data_folder):
    with pytest.raises(ModelError) as caught:
        build(source(data_folder, ignore_missing=()))
    assert "2 missing: layer2.0.shortcut.weight, layer3.0.shortcut.weight" in caught.value.what


def test_a_prefix_that_is_not_stripped_is_named(data_folder):
    with pytest.raises(ModelError) as caught:
        build(source(data_folder, strip_prefix=""))
    assert caught.value.fix == "set strip_prefix: 'module.'"
