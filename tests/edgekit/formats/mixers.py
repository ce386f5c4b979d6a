"""A tiny network with all that weight-only schemes treat differently: convolutions, 3-D and 2-D linear layers."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.nets.load import find_outputs
from edgekit.nets.model import Model
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec
from tests import nets
from tests.edgekit.formats.quantised import context


class Mixer(nn.Module):
    """(N, 2, 8, 8) -> (N, 5). 40 inputs make no whole groups of 16, 64 do."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(2, 40, 2, 2)
        self.depthwise = nn.Conv2d(40, 40, 3, 1, 1, groups=40)
        self.up = nn.Linear(40, 64)
        self.down = nn.Linear(64, 40, bias=False)
        self.norm = nn.LayerNorm(40)
        self.classes = nn.Linear(40, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.depthwise(functional.relu(self.patches(x)))).flatten(2).transpose(1, 2)  # (N, 16, 40)
        x = self.norm(x + self.down(functional.relu(self.up(x))))
        return self.classes(x.mean(1))


# weights of patches, depthwise, up, down, classes, and their output channels
WEIGHTS = 320 + 360 + 2560 + 2560 + 200
CHANNELS = 40 + 40 + 64 + 40 + 5


def mixer() -> nn.Module:
    """Seeded, in eval mode."""
    return nets._trained(Mixer())


def plain_mixer() -> Model:
    """Not quantised."""
    source = ModelSource(
        factory="tests.edgekit.formats.mixers:mixer", inputs=(InputSpec(name="image", shape=(1, 2, 8, 8)),)
    )
    network = mixer()
    return Model(network, source, find_outputs(network, source))


@functools.cache
def quantised_mixer(**options: object) -> Model:
    """With a table made from 40 seeded samples. Biases are not corrected unless asked for: witnesses stay simple."""
    model = plain_mixer()
    chosen = {"bias_correction": "none", **options}
    return quantize(model, QuantizeOptions(**chosen), context(model))  # type: ignore[arg-type]


def dequantised(model: Model) -> nn.Module:
    """The network with the weights that the codes of its table stand for."""
    network = mixer()
    assert model.table is not None
    with torch.no_grad():
        for name, weight in model.table.weights.items():
            network.get_parameter(name).copy_(weight.values())
    return network
