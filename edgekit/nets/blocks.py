"""Building blocks that passes know by their structure."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class Skip(nn.Module):
    """What is left of a block that was removed: it gives its first argument, whatever else it is called with."""

    def forward(self, x: Tensor, *_args: object, **_kwargs: object) -> Tensor:
        """(N, ...) -> (N, ...)."""
        return x


class RepVGGBlock(nn.Module):
    """The block of RepVGG: 3x3, 1x1 and identity branches with batch norms, summed; ReLU after the sum.

    Trained with three branches, it runs as the one 3x3 convolution that is equal to them. Merging sets `conv` and
    makes every branch None. The identity branch exists where input and output have the same shape.

    Source: Ding et al., arXiv:2101.03697, section 3.3.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        same = stride == 1 and channels_in == channels_out
        self.stride = stride
        self.conv3: nn.Conv2d | None = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn3: nn.BatchNorm2d | None = nn.BatchNorm2d(channels_out)
        self.conv1: nn.Conv2d | None = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
        self.bn1: nn.BatchNorm2d | None = nn.BatchNorm2d(channels_out)
        self.bn_identity: nn.BatchNorm2d | None = nn.BatchNorm2d(channels_in) if same else None
        self.conv: nn.Conv2d | None = None
        self.activation = nn.ReLU()

    @property
    def merged(self) -> bool:
        """Whether the block is the one convolution."""
        return self.conv is not None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
        return cast(Tensor, self.activation(self._branches(x) if self.conv is None else self.conv(x)))

    def _branches(self, x: Tensor) -> Tensor:
        assert self.conv3 is not None, "neither merged nor whole"
        assert self.bn3 is not None, "neither merged nor whole"
        assert self.conv1 is not None, "neither merged nor whole"
        assert self.bn1 is not None, "neither merged nor whole"
        total = cast(Tensor, self.bn3(self.conv3(x)) + self.bn1(self.conv1(x)))
        return total if self.bn_identity is None else total + self.bn_identity(x)
