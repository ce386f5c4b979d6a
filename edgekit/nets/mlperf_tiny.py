"""Two networks of the MLPerf Tiny benchmark: ResNet-8 (image classification) and DS-CNN (keyword spotting).

Source: Banbury et al., arXiv:2106.07597, and the reference models of github.com/mlcommons/tiny. Both were defined in
TensorFlow: batch norms have eps 1e-3, convolutions have biases, and padding is SAME, whose odd zero goes after the
image. Where both sides get the same number of zeros the convolution pads by itself; where not, a `ZeroPad2d` goes
before it, which export turns into SAME again.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

_EPS = 1e-3


def resnet8(classes: int = 10) -> nn.Module:
    """ResNet-8: (N, 3, 32, 32), pixels 0..255 -> (N, classes)."""
    return ResNet8(classes)


def ds_cnn(classes: int = 12) -> nn.Module:
    """DS-CNN: (N, 1, 49, 10), 49 frames of 10 MFCC -> (N, classes)."""
    return DsCnn(classes)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: a 1x1 convolution where the stride is 2. Heights and widths are even."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        # SAME, kernel 3: stride 1 pads one zero on each side; stride 2 on an even size pads one zero after only
        self.pad = nn.Identity() if stride == 1 else nn.ZeroPad2d((0, 1, 0, 1))
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1 if stride == 1 else 0)
        self.bn1 = nn.BatchNorm2d(channels_out, eps=_EPS)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(channels_out, eps=_EPS)
        self.down = None if stride == 1 else nn.Conv2d(channels_in, channels_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(self.pad(x))))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.down is None else self.down(x)))


class ResNet8(nn.Module):
    """A stem of 16 channels and three residual blocks of 16, 32 and 64."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1)
        self.bn1 = nn.BatchNorm2d(16, eps=_EPS)
        self.b1 = ResidualBlock(16, 16)
        self.b2 = ResidualBlock(16, 32, stride=2)
        self.b3 = ResidualBlock(32, 64, stride=2)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, classes); H and W are multiples of 4."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.b3(self.b2(self.b1(x)))
        return cast(Tensor, self.fc(x.mean((2, 3))))


class DsCnn(nn.Module):
    """A 10x4 convolution with stride 2 and four depthwise separable blocks, 64 channels throughout."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        # SAME, kernel 10x4, stride 2, on 49x10: 9 zeros over the height (4 before, 5 after), 2 over the width
        self.pad = nn.ZeroPad2d((1, 1, 4, 5))
        self.conv1 = nn.Conv2d(1, 64, (10, 4), 2)
        self.bn1 = nn.BatchNorm2d(64, eps=_EPS)
        for i in range(1, 5):
            self.add_module(f"dw{i}", nn.Conv2d(64, 64, 3, 1, 1, groups=64))
            self.add_module(f"bn_dw{i}", nn.BatchNorm2d(64, eps=_EPS))
            self.add_module(f"pw{i}", nn.Conv2d(64, 64, 1))
            self.add_module(f"bn_pw{i}", nn.BatchNorm2d(64, eps=_EPS))
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 49, 10) -> (N, classes)."""
        x = F.relu(self.bn1(self.conv1(self.pad(x))))
        for i in range(1, 5):
            for part in ("dw", "pw"):
                conv, norm = self.get_submodule(f"{part}{i}"), self.get_submodule(f"bn_{part}{i}")
                x = F.relu(norm(conv(x)))
        return cast(Tensor, self.fc(x.mean((2, 3))))
