"""Tiny transformers and gates, shared by the tests of formats."""

from __future__ import annotations

import torch
from torch import nn

from edgekit.nets.load import find_outputs
from edgekit.nets.model import Model
from edgekit.nets.vit import VisionTransformer
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec
from tests.edgekit.formats.quantised import context


def model_of(network: nn.Module, shape: tuple[int, ...], layout: str = "NCHW") -> Model:
    """A Model of a network with the input `image`."""
    source = ModelSource(factory="tests:transformer", inputs=(InputSpec(name="image", shape=shape, layout=layout),))  # type: ignore[arg-type]
    return Model(network.eval(), source, find_outputs(network.eval(), source))


def tiny_vit(pre_norm: bool = False) -> Model:
    """Patch 4 on 8x8 images, so 5 tokens of width 16, two layers of 2 heads; every parameter away from its default."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = VisionTransformer(
            3, "gelu" if pre_norm else "relu", pre_norm, width=16, depth=2, heads=2, hidden=24, patch=4, image=8
        )
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.15 * torch.randn(parameter.shape))
    return model_of(network, (1, 3, 8, 8))


def quantised_model(model: Model, **options: object) -> Model:
    """After the quantize step, on samples of the normal distribution."""
    return quantize(model, QuantizeOptions(**options), context(model))  # type: ignore[arg-type]
