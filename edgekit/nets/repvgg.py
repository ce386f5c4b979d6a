"""Small networks of RepVGG blocks for small images, and the wider plain network that they learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from edgekit.nets.blocks import RepVGGBlock


def repvgg(classes: int, channels: int = 1, widths: Sequence[int] = (16, 32, 64)) -> nn.Module:
    """(N, channels, H, W) -> (N, classes), for images of any size. One width a stage; the second on halve the image."""
    return RepVGG(widths, classes, channels)


def repvgg_digits(widths: Sequence[int] = (16, 32, 64), classes: int = 10) -> nn.Module:
    """The student: (N, 1, 8, 8) -> (N, classes). One width a stage; the image is halved between stages."""
    return RepVGG(widths, classes)


def teacher_digits(widths: Sequence[int] = (32, 64, 128), classes: int = 10) -> nn.Module:
    """The teacher: (N, 1, 8, 8) -> (N, classes). Two 3x3 convolutions with batch norm and ReLU a stage."""
    return PlainCnn(widths, classes)


class RepVGG(nn.Module):
    """RepVGG blocks, two a stage but one in the first; global average; linear."""

    def __init__(self, widths: Sequence[int], classes: int, channels: int = 1) -> None:
        super().__init__()
        first, *others = widths
        blocks = [RepVGGBlock(channels, first)]
        channels = first
        for width in others:
            blocks += [RepVGGBlock(channels, width, stride=2), RepVGGBlock(width, width)]
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, classes)."""
        return cast(Tensor, self.linear(self.blocks(x).mean((2, 3))))


class PlainCnn(nn.Module):
    """Stages of two 3x3 convolutions with batch norm and ReLU; every stage but the first halves the image."""

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for stage, width in enumerate(widths):
            for stride in (1 if stage == 0 else 2, 1):
                layers += [nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
        self.layers = nn.Sequential(*layers)
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, classes)."""
        return cast(Tensor, self.linear(self.layers(x).mean((2, 3))))
