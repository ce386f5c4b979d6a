import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgekit.nets.blocks import RepVGGBlock
from edgekit.nets.repvgg import repvgg, repvgg_digits, teacher_digits
from tests import nets


def test_a_block_sums_its_branches_before_the_activation():
    network = nets.tiny_repvgg()
    block = network.blocks[1]
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = F.relu(block.bn3(block.conv3(x)) + block.bn1(block.conv1(x)) + block.bn_identity(x))
        assert torch.equal(block(x), wanted)


def test_the_identity_branch_needs_an_unchanged_shape():
    assert RepVGGBlock(4, 4).bn_identity is not None
    assert RepVGGBlock(4, 4, stride=2).bn_identity is None
    assert RepVGGBlock(4, 8).bn_identity is None


def test_a_merged_block_is_its_convolution():
    block = RepVGGBlock(2, 3, stride=2)
    assert not block.merged
    block.conv = nn.Conv2d(2, 3, 3, 2, 1)
    block.conv3 = block.bn3 = block.conv1 = block.bn1 = None
    assert block.merged
    x = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), F.relu(block.conv(x)))
    assert set(block.state_dict()) == {"conv.weight", "conv.bias"}


def test_images_of_any_size_and_colour():
    network = repvgg(classes=5, channels=3, widths=(4, 8)).eval()
    assert network.blocks[0].conv3.weight.shape == (4, 3, 3, 3)
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 17, 30)).shape == (2, 5)


@pytest.mark.parametrize("factory", [repvgg_digits, teacher_digits])
def test_widths_and_classes_are_the_callers(factory):
    network = factory(widths=(4, 8), classes=3).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    assert network.linear.in_features == 8
