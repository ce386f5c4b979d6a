"""Attention layers of PyTorch's own are opened before anything is looked for: theirs cannot have fewer heads."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from edgekit.nets.edits import Open, apply_edits
from edgekit.nets.model import Model


def open_attention(model: Model) -> Model:
    """The same model, every `nn.MultiheadAttention` that can be opened replaced by `nets/multihead.py`'s attention.

    It answers the same; heads, and the width that the layer stands in, become channels of linear layers.
    """
    edits = [Open(layer=name) for name, layer in model.network.named_modules() if name and _can_be_opened(layer)]
    if not edits:
        return model
    return replace(model, network=apply_edits(model.network, edits), edits=(*model.edits, *edits))


def _can_be_opened(layer: nn.Module) -> bool:
    return type(layer) is nn.MultiheadAttention and layer.bias_k is None and not layer.add_zero_attn
