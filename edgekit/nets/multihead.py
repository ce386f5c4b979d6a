"""Multi-head attention whose inner width is free: what `nn.MultiheadAttention` becomes before heads are cut."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.errors import ModelError


class Attention(nn.Module):
    """Takes and gives what `nn.MultiheadAttention` does, with a linear layer each for query, key, value and output.

    There the width is heads times the width of a head; here both can lose channels. As many heads as `q_proj` has room
    for are computed. Source: Vaswani et al., arXiv:1706.03762, section 3.2.2.

    Attributes:
        head_dim: channels of a head.
    """

    # what nn.TransformerEncoderLayer asks before it calls one operator for the whole layer, which knows no other widths
    _qkv_same_embed_dim = False
    in_proj_bias = None
    in_proj_weight = None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        head_dim: int,
        kdim: int,
        vdim: int,
        bias: bool = True,
        dropout: float = 0.0,
        batch_first: bool = False,
    ) -> None:
        super().__init__()
        inner = num_heads * head_dim
        self.head_dim, self.dropout, self.batch_first = head_dim, dropout, batch_first
        self.q_proj = nn.Linear(embed_dim, inner, bias)
        self.k_proj = nn.Linear(kdim, inner, bias)
        self.v_proj = nn.Linear(vdim, inner, bias)
        self.out_proj = nn.Linear(inner, embed_dim, bias)

    @property
    def num_heads(self) -> int:
        """Heads that are left."""
        return self.q_proj.out_features // self.head_dim

    @classmethod
    def of(cls, old: nn.MultiheadAttention) -> Attention:
        """The same function, with copies of the weights.

        Raises:
            ModelError: it appends keys of its own, which belong to no token.
        """
        if old.bias_k is not None or old.add_zero_attn:
            raise ModelError("attention with add_bias_kv or add_zero_attn", "edits, open", "leave its heads whole")
        new = cls(
            old.embed_dim,
            old.num_heads,
            old.head_dim,
            old.kdim or old.embed_dim,
            old.vdim or old.embed_dim,
            old.in_proj_bias is not None,
            old.dropout,
            old.batch_first,
        ).to(old.out_proj.weight)
        packed = old.in_proj_weight
        weights = packed.chunk(3) if packed is not None else (old.q_proj_weight, old.k_proj_weight, old.v_proj_weight)
        layers = (new.q_proj, new.k_proj, new.v_proj)
        with torch.no_grad():
            for layer, weight in zip(layers, weights, strict=True):
                layer.weight.copy_(weight)
            if old.in_proj_bias is not None:
                for layer, bias in zip(layers, old.in_proj_bias.chunk(3), strict=True):
                    layer.bias.copy_(bias)
                new.out_proj.bias.copy_(old.out_proj.bias)
            new.out_proj.weight.copy_(old.out_proj.weight)
        for parameter in new.parameters():
            parameter.requires_grad_(old.out_proj.weight.requires_grad)
        return new.train(old.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(N, L, E), (N, S, Ek), (N, S, Ev), or (L, N, E) ... unless batch_first, or without N -> like query, and
        weights (N, L, S), or (N, heads, L, S) where they are not averaged; None unless they are needed.
        """
        batched = query.dim() == 3
        turned = batched and not self.batch_first
        if turned:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        elif not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
        q, k, v = (
            layer(x).view(len(x), x.shape[1], -1, self.head_dim).transpose(1, 2)  # (N, heads, L or S, head_dim)
            for layer, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        mask = _mask(q, attn_mask, key_padding_mask)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q / math.sqrt(self.head_dim)) @ k.transpose(-2, -1)
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
            out = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        elif is_causal and mask is not None and key_padding_mask is None:
            out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        made = self.out_proj(out.transpose(1, 2).flatten(2))
        return (made.transpose(0, 1) if turned else made if batched else made.squeeze(0)), weights


def _mask(q: Tensor, attn_mask: Tensor | None, padding: Tensor | None) -> Tensor | None:
    """Both masks as one that is added: (N or 1, heads or 1, L or 1, S)."""
    masks = []
    if attn_mask is not None:
        added = _added(attn_mask, q)
        masks.append(added if added.dim() == 2 else added.view(len(q), -1, *added.shape[1:]))
    if padding is not None:
        added = _added(padding, q)
        masks.append((added if added.dim() == 2 else added.unsqueeze(0))[:, None, None])
    return None if not masks else masks[0] if len(masks) == 1 else masks[0] + masks[1]


def _added(mask: Tensor, q: Tensor) -> Tensor:
    if mask.dtype is not torch.bool:
        return mask.to(q.dtype)
    return torch.zeros_like(mask, dtype=q.dtype).masked_fill(mask, float("-inf"))
