import pytest
import torch

from edgekit.data.metrics.ranking import top1
from edgekit.data.splits import find_data
from edgekit.nets.load import build
from edgekit.nets.mobilenet import mobilenet_v1, mobilenet_v2, mobilenet_v2_folded
from edgekit.schema.load import load_recipe
from edgekit.schema.recipe import Checkpoint, ModelSource
from edgekit.schema.tensors import InputSpec


def params(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_are_the_published_numbers():
    assert params(mobilenet_v1(width=0.25)) == 470_072  # keras.applications.MobileNet(alpha=0.25)
    assert params(mobilenet_v1(width=1.0)) == 4_231_976  # keras.applications.MobileNet(), the paper's 4.2 million
    assert params(mobilenet_v2()) == 3_504_872  # torchvision.models.mobilenet_v2


def test_version_2_narrows_to_multiples_of_8():
    network = mobilenet_v2(width=0.35, classes=7).eval()
    widths = {m.out_channels for m in network.modules() if isinstance(m, torch.nn.Conv2d)}
    assert all(width % 8 == 0 for width in widths)
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 96, 64)).shape == (2, 7)


def test_folded_version_2_has_as_many_weights_as_version_2_and_one_class_more():
    # each of 17,056 channels has a bias for the two parameters of a norm; one more class has 1,280 weights and a bias
    assert params(mobilenet_v2_folded()) == params(mobilenet_v2()) - 17_056 + 1_281


def test_folded_version_2_with_published_integers_knows_its_images(data_folder, monkeypatch):
    pytest.importorskip("PIL")
    monkeypatch.setenv("EDGEKIT_DATA", str(data_folder))
    network = build(load_recipe("mobilenet-v2-imagenet").recipe.model).network
    test = find_data("imagenet-sample").test.head(100)
    with torch.no_grad():
        given = network(test.inputs[0])
    assert given.shape == (100, 1000)
    # 89.2 % of 1,000 such images were measured; a wrong padding leaves under 80 %
    assert 0.84 <= top1(given.numpy(), test.labels.numpy()) <= 0.96


def test_version_1_with_keras_weights_knows_its_images(data_folder, monkeypatch):
    pytest.importorskip("PIL")
    monkeypatch.setenv("EDGEKIT_DATA", str(data_folder))
    source = ModelSource(
        factory="edgekit.nets.mobilenet:mobilenet_v1",
        arguments={"width": 0.25},
        inputs=(InputSpec(name="image", shape=(1, 3, 224, 224)),),
        checkpoint=Checkpoint(path=str(data_folder / "weights" / "imagenet_mobilenet_v1_0.25_224_keras.npz")),
    )
    network = build(source).network
    test = find_data("imagenet-sample").test.head(100)
    with torch.no_grad():
        accuracy = top1(network(test.inputs[0]).numpy(), test.labels.numpy())
    # 59.5 % of 1,000 such images were measured; of 100 a wrong padding or scaling leaves under 45 %
    assert 0.48 <= accuracy <= 0.72
