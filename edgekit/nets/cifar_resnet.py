"""Residual networks for 32x32 images: He et al., arXiv:1512.03385, section 4.2, with shortcuts of option A."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def resnet20(classes: int = 10) -> nn.Module:
    """ResNet-20: (N, 3, 32, 32) -> (N, classes)."""
    return CifarResNet(depth=20, classes=classes)


def resnet32(classes: int = 10) -> nn.Module:
    """ResNet-32: (N, 3, 32, 32) -> (N, classes)."""
    return CifarResNet(depth=32, classes=classes)


def resnet56(classes: int = 10) -> nn.Module:
    """ResNet-56: (N, 3, 32, 32) -> (N, classes)."""
    return CifarResNet(depth=56, classes=classes)


def option_a_shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Conv2d:
    """The parameter-free shortcut as a 1x1 convolution: every stride-th pixel, and zeros for the new channels.

    The old channels lie in the middle of the new ones. Slicing and zero padding say the same, but channel padding
    cannot be followed by a dependency graph, so pruning could not tell which channels belong together. The weights,
    0 and 1, are fixed: `requires_grad` is off, and pretrained files do not hold them.
    """
    conv = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
    first = (channels_out - channels_in) // 2
    weight = torch.zeros(channels_out, channels_in, 1, 1)
    weight[first : first + channels_in, :, 0, 0] = torch.eye(channels_in)
    conv.weight = nn.Parameter(weight, requires_grad=False)
    return conv


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: the identity where the shape stays, else option A."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        same = stride == 1 and channels_in == channels_out
        self.shortcut = None if same else option_a_shortcut(channels_in, channels_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class CifarResNet(nn.Module):
    """Three stages of 16, 32 and 64 channels with (depth - 2) / 6 blocks each; depth is 6 n + 2."""

    def __init__(self, depth: int, classes: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.requires_grad:
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return cast(Tensor, self.linear(x.mean((2, 3))))


def _stage(channels_in: int, channels_out: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(channels_in, channels_out, stride)
    return nn.Sequential(first, *(BasicBlock(channels_out, channels_out, 1) for _ in range(blocks - 1)))
