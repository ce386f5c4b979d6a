"""MobileNets: depthwise separable convolutions for images.

Version 1: Howard et al., arXiv:1704.04861, laid out as in Keras (batch norm eps 1e-3, zeros after the image where the
stride is 2). Version 2: Sandler et al., arXiv:1801.04381, table 2, with batch norms and symmetric padding, or as
TensorFlow publishes it in integers: batch norms folded, padding as in version 1.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

# output channels and stride of the 13 separable blocks of version 1 at width 1 (table 1 of the paper)
_V1_BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)
# expansion, output channels, repeats, stride of the first (table 2 of the paper)
_V2_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v1(width: float = 1.0, classes: int = 1000) -> nn.Module:
    """MobileNetV1: (N, 3, H, W) in [-1, 1] -> (N, classes); H and W are multiples of 32. Widths are cut to integers."""
    return MobileNetV1(width, classes)


def mobilenet_v2(width: float = 1.0, classes: int = 1000, dropout: float = 0.2) -> nn.Module:
    """MobileNetV2: (N, 3, H, W) -> (N, classes). Widths are rounded to multiples of 8."""
    return MobileNetV2(width, classes, dropout)


def mobilenet_v2_folded() -> nn.Module:
    """MobileNetV2 1.0 for weights without batch norms: (N, 3, H, W) in [-1, 1] -> (N, 1000); H, W multiples of 32."""
    return MobileNetV2Folded()


class MobileNetV1(nn.Module):
    """A 3x3 stem and 13 blocks of a depthwise 3x3 and a pointwise convolution, each with batch norm and ReLU6."""

    def __init__(self, width: float, classes: int) -> None:
        super().__init__()
        channels = int(32 * width)
        self.pad = nn.ZeroPad2d((0, 1, 0, 1))  # before every convolution of stride 2: one zero, after the image
        self.conv1 = nn.Conv2d(3, channels, 3, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(channels, eps=1e-3)
        for i, (wide, stride) in enumerate(_V1_BLOCKS, start=1):
            out = int(wide * width)
            depthwise = nn.Conv2d(channels, channels, 3, stride, 1 if stride == 1 else 0, groups=channels, bias=False)
            self.add_module(f"dw{i}", depthwise)
            self.add_module(f"bn_dw{i}", nn.BatchNorm2d(channels, eps=1e-3))
            self.add_module(f"pw{i}", nn.Conv2d(channels, out, 1, bias=False))
            self.add_module(f"bn_pw{i}", nn.BatchNorm2d(out, eps=1e-3))
            channels = out
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, classes)."""
        x = F.relu6(self.bn1(self.conv1(self.pad(x))))
        for i, (_, stride) in enumerate(_V1_BLOCKS, start=1):
            if stride == 2:
                x = self.pad(x)
            x = F.relu6(self.get_submodule(f"bn_dw{i}")(self.get_submodule(f"dw{i}")(x)))
            x = F.relu6(self.get_submodule(f"bn_pw{i}")(self.get_submodule(f"pw{i}")(x)))
        return cast(Tensor, self.fc(x.mean((2, 3))))


class InvertedResidual(nn.Module):
    """Expand by a 1x1 convolution, filter depthwise, project without activation; a shortcut where the shape stays."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += _conv_norm(channels_in, hidden, 1)
            layers.append(nn.ReLU6())
        layers += _conv_norm(hidden, hidden, 3, stride, groups=hidden)
        layers.append(nn.ReLU6())
        layers += _conv_norm(hidden, channels_out, 1)
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
        y = cast(Tensor, self.layers(x))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """A 3x3 stem, 17 inverted residual blocks, a 1x1 convolution, global average, linear."""

    def __init__(self, width: float, classes: int, dropout: float) -> None:
        super().__init__()
        channels = _multiple_of_8(32 * width)
        blocks: list[nn.Module] = []
        self.stem = nn.Sequential(*_conv_norm(3, channels, 3, 2), nn.ReLU6())
        for expansion, wide, repeats, first_stride in _V2_STAGES:
            out = _multiple_of_8(wide * width)
            for k in range(repeats):
                blocks.append(InvertedResidual(channels, out, first_stride if k == 0 else 1, expansion))
                channels = out
        self.blocks = nn.Sequential(*blocks)
        last = _multiple_of_8(1280 * max(1.0, width))
        self.head = nn.Sequential(*_conv_norm(channels, last, 1), nn.ReLU6())
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, classes)."""
        x = self.head(self.blocks(self.stem(x)))
        return cast(Tensor, self.fc(self.dropout(x.mean((2, 3)))))


class MobileNetV2Folded(nn.Module):
    """53 convolutions L00 .. L52 in the order of the graph, as TensorFlow's quantised files hold them.

    The last makes 1001 classes; the first of them, the background, is dropped.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((0, 1, 0, 1))  # before every convolution of stride 2: one zero, after the image
        self._blocks: list[tuple[list[str], bool]] = []  # names of a block's convolutions, whether it has a shortcut
        self._count = 0
        self._add(3, 32, 3, 2)
        channels = 32
        for expansion, out, repeats, first_stride in _V2_STAGES:
            for k in range(repeats):
                hidden, stride = channels * expansion, first_stride if k == 0 else 1
                names = [] if expansion == 1 else [self._add(channels, hidden)]
                names += [self._add(hidden, hidden, 3, stride, hidden), self._add(hidden, out)]
                self._blocks.append((names, stride == 1 and channels == out))
                channels = out
        self._last = [self._add(channels, 1280), self._add(1280, 1001)]

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 1000)."""
        x = F.relu6(self._convolve("L00", x))
        for names, shortcut in self._blocks:
            y = x
            for name in names[:-1]:
                y = F.relu6(self._convolve(name, y))
            y = self._convolve(names[-1], y)
            x = x + y if shortcut else y
        features, classes = self._last
        x = F.relu6(self._convolve(features, x)).mean((2, 3), keepdim=True)
        return self._convolve(classes, x).flatten(1)[:, 1:]

    def _add(self, channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> str:
        name = f"L{self._count:02d}"
        self._count += 1
        padding = kernel // 2 if stride == 1 else 0
        self.add_module(name, nn.Conv2d(channels_in, channels_out, kernel, stride, padding, groups=groups))
        return name

    def _convolve(self, name: str, x: Tensor) -> Tensor:
        convolution = cast(nn.Conv2d, self.get_submodule(name))
        return cast(Tensor, convolution(x if convolution.stride == (1, 1) else self.pad(x)))


def _conv_norm(channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(channels_out)]


def _multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8, one up where rounding down would lose more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8
