"""Vision transformers for 32x32 images: Dosovitskiy et al., arXiv:2010.11929, in two orders of norm and residual."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn


def vit_d6(classes: int = 10) -> nn.Module:
    """Post-norm, ReLU: (N, 3, 32, 32) -> (N, classes). Patch 4, width 128, depth 6, 8 heads, hidden 256.

    The published weights of this shape name their tensors as here.
    """
    return VisionTransformer(classes, activation="relu", norm_first=False)


def vit_gelu(classes: int = 10) -> nn.Module:
    """Pre-norm, GELU: (N, 3, 32, 32) -> (N, classes). Patch 4, width 96, depth 4, 4 heads, hidden 192.

    As small as it is, one processor core trains it on 14,000 images.
    """
    return VisionTransformer(
        classes, activation="gelu", norm_first=True, width=96, depth=4, heads=4, hidden=192, dropout=0.0
    )


class VisionTransformer(nn.Module):
    """Patches and a class token with learned positions, an encoder, and a head on the class token."""

    def __init__(
        self,
        classes: int,
        activation: Literal["relu", "gelu"],
        norm_first: bool,
        width: int = 128,
        depth: int = 6,
        heads: int = 8,
        hidden: int = 256,
        patch: int = 4,
        image: int = 32,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        tokens = 1 + (image // patch) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        layer = nn.TransformerEncoderLayer(
            width, heads, hidden, dropout=dropout, activation=activation, batch_first=True, norm_first=norm_first
        )
        self.transformer = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.mlp_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, image, image) -> (N, classes)."""
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)  # (N, patches, width)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return cast(Tensor, self.mlp_head(self.transformer(x)[:, 0]))
