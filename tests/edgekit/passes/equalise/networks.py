"""Small networks whose channels meet in every way that equalisation must follow, each with the same seeded weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.nets.cifar_resnet import BasicBlock
from edgekit.nets.load import find_outputs
from edgekit.nets.model import Model
from edgekit.nets.program import trace_as_written
from edgekit.passes.equalise.flow import follow
from edgekit.passes.equalise.rules import RULES
from edgekit.passes.equalise.task import Task
from edgekit.schema.passes import EqualiseOptions
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec
from tests.edgekit.formats.quantised import context


def model_of(network: nn.Module, shape: tuple[int, ...]) -> Model:
    """Weights, norms and biases away from their defaults, the same at every call."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point() and "shortcut" not in name:
                spread = 1 / math.sqrt(tensor[0].numel()) if tensor.dim() > 1 else 0.3
                tensor.copy_(torch.randn(tensor.shape, generator=draw) * spread)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm | nn.RMSNorm):
                module.weight.abs_().add_(0.5)
    network.eval()
    source = ModelSource(factory="tests:network", inputs=(InputSpec(name="input", shape=shape),))
    return Model(network, source, find_outputs(network, source))


def task_of(model: Model, samples: int = 8, **options: object) -> tuple[Task, dict[str, Tensor]]:
    """What a method is given for a network, and its tensors in float64."""
    program = trace_as_written(model)
    flow = follow(program, model.network, RULES)
    task = Task(model, program, flow, EqualiseOptions(**options), context(model, samples))  # type: ignore[arg-type]
    return task, {name: tensor.detach().double() for name, tensor in model.network.state_dict().items()}


class Pair(nn.Module):
    """(N, 5) -> 6 -> (N, 3)."""

    def __init__(self, activation: str = "relu") -> None:
        super().__init__()
        self.first, self.second, self.activation = nn.Linear(5, 6), nn.Linear(6, 3), activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(x if self.activation == "none" else getattr(F, self.activation)(x))


class Triple(nn.Module):
    """Pointwise, depthwise, pointwise, for (N, 2, 6, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.last = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.depthwise(F.relu(self.first(x)))))


class Shortcuts(nn.Module):
    """Two residual blocks: one keeps its 4 channels, one makes 6 of them by zeros on both sides. For (N, 1, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.same, self.wider = BasicBlock(4, 4, 1), BasicBlock(4, 6, 2)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.wider(self.same(F.relu(self.stem(x)))).mean((2, 3)))


class Meetings(nn.Module):
    """Concatenation, grouped convolution, pools, a pad, flattening, a stored shift and gain. For (N, 1, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 2, 3, padding=1)
        self.grouped = nn.Conv2d(6, 4, 3, groups=2)
        self.shift, self.gain = nn.Parameter(torch.zeros(4, 1, 1)), nn.Parameter(torch.zeros(4, 1, 1))
        self.head = nn.Linear(4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([F.relu(self.left(x)), F.leaky_relu(self.right(x)) * 0.5], 1)
        x = self.grouped(F.pad(F.max_pool2d(x, 2), (0, 2, 1, 1)))
        x = F.relu(x + self.shift) * self.gain
        return self.head(F.avg_pool2d(x, 2).flatten(1))


class Block(nn.Module):
    """A pre-norm transformer block on a class token and 4 others, with positions; for (N, 4, 4).

    Args:
        norm: `layer` or `rms`, the latter without biases behind it.
        packed: queries, keys and values in one layer.
    """

    def __init__(self, norm: str = "layer", packed: bool = True, width: int = 8, activation: str = "relu") -> None:
        super().__init__()
        make = nn.LayerNorm if norm == "layer" else nn.RMSNorm
        biased = norm == "layer"
        self.heads, self.packed, self.activation = 2, packed, activation
        self.embed = nn.Linear(4, width)
        self.token, self.places = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.zeros(1, 5, width))
        self.norm1, self.norm2, self.norm3 = make(width), make(width), make(width)
        if packed:
            self.qkv = nn.Linear(width, 3 * width, bias=biased)
        else:
            self.q, self.k, self.v = (nn.Linear(width, width, bias=biased) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 12, bias=biased), nn.Linear(12, width)
        self.head = nn.Linear(width, 2, bias=biased)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(x), -1, -1), self.embed(x)], 1) + self.places
        y = self.norm1(x)
        q, k, v = self.qkv(y).chunk(3, -1) if self.packed else (self.q(y), self.k(y), self.v(y))
        heads = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v)]
        x = x + self.out(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
        x = x + self.down(getattr(F, self.activation)(self.up(self.norm2(x))))
        return self.head(self.norm3(x)[:, 0])


class Gated(nn.Module):
    """down(silu(gate(x)) * up(x)) for (N, 4), 6 wide inside."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Shared(nn.Module):
    """One layer that is used twice, and one whose weight is another's. For (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.own, self.tied, self.free = (nn.Linear(4, 4) for _ in range(4))
        self.tied.weight = self.own.weight
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.twice(F.relu(self.twice(x))))
        return self.head(F.relu(self.free(F.relu(self.tied(F.relu(self.own(x)))))))
