"""Tiny seeded networks for tests, each beside its hand-counted parameters and multiply-accumulates."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.nets.blocks import RepVGGBlock
from edgekit.nets.keyword_rnn import KeywordGru, KeywordLstm
from edgekit.nets.load import find_outputs
from edgekit.nets.model import Model
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec


class Counted(NamedTuple):
    """A factory, the shape it takes, and what one counts by hand."""

    factory: str
    shape: tuple[int, ...]
    params: int
    macs: int


# conv 2->4 3x3, norm, depthwise 3x3 stride 2, norm, pointwise 4->6, linear 6->3, on 2x8x8:
# params 4*2*9 + 2*4 + 4*9 + 2*4 + 6*4 + 6 + 3*6 + 3 = 175
# macs 4*2*9*64 + 4*9*16 + 6*4*16 + 3*6 = 4608 + 576 + 384 + 18 = 5586
TINY_CONV = Counted("tests.nets:tiny_conv", (1, 2, 8, 8), 175, 5586)

# two convs 4->4 3x3 with norms around a shortcut, after a stem 1->4 3x3 with bias; linear 4->2; on 1x6x6:
# params 4*9 + 4 + 2*(4*4*9 + 2*4) + 2*4 + 2 = 40 + 304 + 10 = 354
# macs 36*(4*9 + 2*4*4*9) + 2*4 = 36*324 + 8 = 11672
TINY_RESIDUAL = Counted("tests.nets:tiny_residual", (1, 1, 6, 6), 354, 11672)

# RepVGG blocks 2->4 stride 2 (no identity) and 4->4, linear 4->3, on 2x8x8:
# params (4*2*9 + 8 + 4*2 + 8) + (4*4*9 + 8 + 4*4 + 8 + 8) + 3*4 + 3 = 96 + 184 + 15 = 295
# macs 16*(4*2*10) + 16*(4*4*10) + 3*4 = 1280 + 2560 + 12 = 3852
TINY_REPVGG = Counted("tests.nets:tiny_repvgg", (1, 2, 8, 8), 295, 3852)

COUNTED = (TINY_CONV, TINY_RESIDUAL, TINY_REPVGG)


def tiny_conv(width: int = 4) -> nn.Module:
    return _trained(TinyConv(width))


def tiny_residual() -> nn.Module:
    return _trained(TinyResidual())


def tiny_repvgg() -> nn.Module:
    return _trained(TinyRepVGG())


def two_heads() -> nn.Module:
    return _trained(TwoHeads())


def tiny_lstm() -> nn.Module:
    """(N, T, 3) -> (N, 4), 5 units."""
    return _trained(KeywordLstm(5, 4, (-1.0, 0.5, 0.25), (4.0, 1.0, 0.5)))


def tiny_gru() -> nn.Module:
    """(N, T, 3) -> (N, 4), 5 units."""
    return _trained(KeywordGru(5, 4, (-1.0, 0.5, 0.25), (4.0, 1.0, 0.5)))


def recurrent(cell: str, steps: int) -> Model:
    """The Model of `tiny_lstm` (cell `lstm`) or `tiny_gru` (`gru`) on sequences of so many steps, in eval mode."""
    spec = InputSpec(name="x", shape=(1, steps, 3), layout="NTC")
    source = ModelSource(factory=f"tests.nets:tiny_{cell}", inputs=(spec,))
    network = globals()[f"tiny_{cell}"]()
    return Model(network, source, find_outputs(network, source))


def model(counted: Counted) -> Model:
    """The Model of one of the networks above, in eval mode."""
    source = ModelSource(factory=counted.factory, inputs=(InputSpec(name="image", shape=counted.shape),))
    network = globals()[counted.factory.split(":")[1]]()
    return Model(network, source, find_outputs(network, source))


def conv_and_trained_norm(channels: int = 8, channels_in: int = 2) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A 3x3 convolution without bias and a batch norm, every statistic away from its default, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pair = nn.Sequential(nn.Conv2d(channels_in, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
    _trained(pair)
    conv, norm = pair
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return conv, norm


class TinyConv(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.depthwise = nn.Conv2d(width, width, 3, 2, 1, groups=width, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(width)
        self.pointwise = nn.Conv2d(width, 6, 1)
        self.linear = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        x = F.relu(self.depthwise_norm(self.depthwise(x)))
        return self.linear(F.relu(self.pointwise(x)).mean((2, 3)))


class TinyResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, 1, 1)
        self.conv1 = nn.Conv2d(4, 4, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return self.linear(F.relu(x + y).mean((2, 3)))


class TinyRepVGG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(RepVGGBlock(2, 4, stride=2), RepVGGBlock(4, 4))
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.blocks(x).mean((2, 3)))


class TwoHeads(nn.Module):
    """Two outputs of different shapes, for (N, 2, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(2, 4, 3, 1, 1)
        self.classes = nn.Linear(4, 3)
        self.mask = nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.trunk(x))
        return self.classes(x.mean((2, 3))), self.mask(x)


def _trained(network: nn.Module) -> nn.Module:
    """Every parameter and statistic away from its default, the same at every call; eval mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.abs_().add_(0.5)
    return network.eval()
