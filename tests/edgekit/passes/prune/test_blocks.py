"""Blocks that may go are those that the network runs without."""

import torch
from torch import nn

from edgekit.nets.model import Model
from edgekit.nets.vit import VisionTransformer
from edgekit.passes.prune.blocks import find_blocks
from edgekit.passes.prune.heads import open_attention
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec


def test_the_layer_that_an_encoder_asks_for_its_attention_stays():
    torch.manual_seed(0)
    network = VisionTransformer(3, "gelu", True, width=8, depth=3, heads=2, hidden=8, patch=4, image=8).eval()
    spec = InputSpec(name="x", shape=(1, 3, 8, 8))
    model = open_attention(Model(network, ModelSource(factory="tests:made", inputs=(spec,)), ()))
    assert isinstance(network.transformer, nn.TransformerEncoder)
    blocks = find_blocks(model)
    assert [name for name in blocks if name.startswith("transformer.layers.")] == [
        "transformer.layers.1",
        "transformer.layers.2",
    ]
