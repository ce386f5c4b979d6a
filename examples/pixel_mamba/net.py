"""Two Mamba networks of other people's, so written that their weights load by name and any exporter takes them.

The layer is Mamba-1: Gu and Dao, arXiv:2312.00752. Its recurrence runs as an associative scan of plain tensor
operators, so that the traced graph has some hundred operators instead of one step's for each of 784 pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SAMPLES_AT_ONCE = (
    4  # all states of one sample are 784 * 128 * 16 numbers, 6 MB: more samples leave the processor's cache
)


def pixel_mamba(classes: int = 10) -> nn.Module:
    """(N, 1, 28, 28) -> (N, classes): one pixel a step, row by row, 784 steps."""
    return PixelMamba(classes)


def patch_mamba(classes: int = 10) -> nn.Module:
    """(N, 3, 32, 32) -> (N, classes): one patch of 4x4 pixels a step, 64 steps."""
    return PatchMamba(classes)


def scan(decay: Tensor, inflow: Tensor) -> Tensor:
    """Every state of h[t] = decay[t] * h[t - 1] + inflow[t], with h[-1] = 0. All three are (N, T, C).

    Two steps in a row are one step with decay d1 * d0 and inflow d1 * i0 + i1. So steps are joined in pairs, the
    sequence of half the length is scanned the same way, which gives the states at odd t, and each even one is a step
    further. That takes three multiplications a state; doubling (Hillis and Steele 1986) takes two for each of log2(T)
    rounds, and is twelve times slower at 784 steps.
    Source: Blelloch, Prefix Sums and Their Applications, 1990.
    """
    steps = inflow.shape[1]
    if steps == 1:
        return inflow
    pairs = steps // 2
    first, second = decay[:, : 2 * pairs : 2], decay[:, 1::2]
    odd = scan(second * first, second * inflow[:, : 2 * pairs : 2] + inflow[:, 1::2])
    even = torch.cat([inflow[:, :1], decay[:, 2::2] * odd[:, : steps - pairs - 1] + inflow[:, 2::2]], 1)
    states = torch.stack([even[:, :pairs], odd], 2).flatten(1, 2)
    return states if steps == 2 * pairs else torch.cat([states, even[:, pairs:]], 1)


class Mamba(nn.Module):
    """Mamba-1: a causal convolution over time, a state space whose step size, input and output follow the data, a gate.

    Args:
        width: of what goes in and comes out.
        channels: inside.
        states: numbers that each channel keeps from step to step.
        rank: of the step sizes' projection.
    """

    def __init__(self, width: int = 64, channels: int = 128, states: int = 16, rank: int = 4, kernel: int = 4) -> None:
        super().__init__()
        self.channels, self.states, self.rank = channels, states, rank
        self.in_proj = nn.Linear(width, 2 * channels, bias=False)
        self.conv1d = nn.Conv1d(channels, channels, kernel, padding=kernel - 1, groups=channels)
        self.x_proj = nn.Linear(channels, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, channels)
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(channels, 1))
        self.D = nn.Parameter(torch.ones(channels))
        self.out_proj = nn.Linear(channels, width, bias=False)

    def forward(self, u: Tensor) -> Tensor:
        """(N, T, width) in and out."""
        samples, steps, _ = u.shape
        x, gate = self.in_proj(u).split(self.channels, 2)
        x = F.silu(self.conv1d(x.transpose(1, 2))[:, :, :steps].transpose(1, 2))  # no step sees a later one
        rank, into, out_of = self.x_proj(x).split([self.rank, self.states, self.states], 2)
        size = F.softplus(self.dt_proj(rank))  # (N, T, channels): how far this step goes
        decay = torch.exp(size[..., None] * -torch.exp(self.A_log))  # (N, T, channels, states)
        inflow = (size * x)[..., None] * into[:, :, None]
        states = scan(decay.flatten(2), inflow.flatten(2)).reshape(samples, steps, self.channels, self.states)
        y = (states @ out_of[..., None]).flatten(2) + self.D * x
        result: Tensor = self.out_proj(y * F.silu(gate))
        return result


class PixelMamba(nn.Module):
    """Two Mamba layers over pixels, with nothing around them; the mean over time, a norm and a linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.input_proj = nn.Linear(1, 64)
        self.layers = nn.ModuleList([Mamba(), Mamba()])
        self.norm = nn.LayerNorm(64)
        self.classifier = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> (N, classes)."""
        if len(images) > SAMPLES_AT_ONCE:
            return torch.cat([self(part) for part in images.split(SAMPLES_AT_ONCE)])
        x = self.input_proj(images.flatten(1)[..., None])
        for layer in self.layers:
            x = layer(x)
        result: Tensor = self.classifier(self.norm(x.mean(1)))
        return result


class PatchMamba(nn.Module):
    """Two Mamba layers over patches; the mean over time and a linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 64, 4, 4)
        self.block1 = nn.ModuleDict({"mamba": Mamba()})
        self.block2 = nn.ModuleDict({"mamba": Mamba()})
        self.classifier = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, 32, 32) -> (N, classes)."""
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        x = self.block2["mamba"](self.block1["mamba"](x))
        result: Tensor = self.classifier(x.mean(1))
        return result
