"""Vision transformers: their size by hand, and the published weights' accuracy."""

import pytest
import torch

from edgekit.data.metrics import top1
from edgekit.data.splits import find_data
from edgekit.nets.load import build
from edgekit.nets.vit import vit_d6, vit_d6_pre_norm
from edgekit.schema.load import load_recipe


@pytest.mark.parametrize("make", [vit_d6, vit_d6_pre_norm])
def test_parameters_by_hand(make):
    network = make()
    # a layer: attention 4 * 128 * 129, hidden 128 * 257 + 256 * 128 + 128, two norms of 256
    layer = 4 * 128 * 129 + 256 * 129 + 128 * 257 + 2 * 256
    patches, tokens, head = 128 * 48 + 128, 66 * 128, 256 + 10 * 129
    assert sum(p.numel() for p in network.parameters()) == 6 * layer + patches + tokens + head == 811_146
    with torch.no_grad():
        assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_published_weights_know_their_images(data_folder, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", str(data_folder))
    network = build(load_recipe("vit-cifar10").recipe.model).network
    test = find_data("cifar10-vit").test.head(500)
    with torch.no_grad():
        accuracy = top1(network(test.inputs).numpy(), test.labels.numpy())
    # 73.72 % of 10,000 were measured; a wrong order of norms or a wrong normalisation leaves far less
    assert 0.68 <= accuracy <= 0.80
