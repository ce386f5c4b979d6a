"""A Llama-style decoder with weights from a file that no reader of edgekit knows: llama2.c's, read by the factory.

Source: Touvron et al., arXiv:2307.09288; the file's layout is that of github.com/karpathy/llama2.c, legacy export.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_HEADER = struct.Struct("<7i")


@dataclass(frozen=True)
class Sizes:
    """The header of the file, in its order."""

    width: int
    hidden: int
    layers: int
    heads: int
    shared_heads: int  # of keys and values
    tokens: int
    steps: int


def stories(path: str, steps: int | None = None) -> nn.Module:
    """(N, steps) token ids -> (N, steps, tokens), the scores of what comes next at every step.

    Args:
        path: a legacy export of llama2.c.
        steps: length of a sequence, for which positions are tabulated; none: the longest that the file was made for.
    """
    content = Path(path).read_bytes()
    header = Sizes(*_HEADER.unpack_from(content))
    if header.tokens < 0:
        raise ValueError(f"{path}: an output layer of its own is not read here; this network shares its embedding")
    sizes = header if steps is None else Sizes(**{**vars(header), "steps": steps})
    network = Decoder(sizes)
    network.load_state_dict(_weights(np.frombuffer(content, "<f4", offset=_HEADER.size), sizes))
    return network


def _weights(numbers: np.ndarray, sizes: Sizes) -> dict[str, Tensor]:
    """Tensors by the network's names; the file holds each kind for all layers in a row, and tables at its end."""
    inner = sizes.shared_heads * (sizes.width // sizes.heads)
    kinds: tuple[tuple[str, tuple[int, ...]], ...] = (
        ("attention_norm.weight", (sizes.width,)),
        ("attention.query.weight", (sizes.width, sizes.width)),
        ("attention.key.weight", (inner, sizes.width)),
        ("attention.value.weight", (inner, sizes.width)),
        ("attention.out.weight", (sizes.width, sizes.width)),
        ("gated_norm.weight", (sizes.width,)),
        ("gated.gate.weight", (sizes.hidden, sizes.width)),
        ("gated.out.weight", (sizes.width, sizes.hidden)),
        ("gated.up.weight", (sizes.hidden, sizes.width)),
    )
    found, start = {}, 0
    for name, shape in (
        ("embedding.weight", (sizes.tokens, sizes.width)),
        *((f"layers.{layer}.{name}", shape) for name, shape in kinds for layer in range(sizes.layers)),
        ("norm.weight", (sizes.width,)),
    ):
        end = start + int(np.prod(shape))
        tensor = torch.from_numpy(numbers[start:end].reshape(shape).copy())
        found[name] = _halves(tensor, sizes) if name.endswith(("query.weight", "key.weight")) else tensor
        start = end
    return found


def _halves(weight: Tensor, sizes: Sizes) -> Tensor:
    """Rows of each head in another order: those of even number, then the others.

    The file turns neighbours, 0 with 1 and 2 with 3, as pairs of coordinates. In this order pairs lie half a head
    apart, and two slices take all of them. Queries and keys are reordered alike, so their products are the same.
    """
    size = sizes.width // sizes.heads
    return weight.reshape(-1, size // 2, 2, sizes.width).transpose(1, 2).reshape(-1, sizes.width)


class Decoder(nn.Module):
    """Embedding, layers, a norm, and the embedding once more as output layer."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sizes.tokens, sizes.width)
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(sizes.layers))
        self.norm = nn.RMSNorm(sizes.width, eps=1e-5)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T) -> (N, T, tokens)."""
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return F.linear(self.norm(x), self.embedding.weight)


class Layer(nn.Module):
    """Causal attention and a gated layer, each behind a norm and added to what came in."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(sizes.width, eps=1e-5)
        self.attention = Attention(sizes)
        self.gated_norm = nn.RMSNorm(sizes.width, eps=1e-5)
        self.gated = Gated(sizes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, width) in and out."""
        x = x + self.attention(self.attention_norm(x))
        return cast(Tensor, x + self.gated(self.gated_norm(x)))


class Attention(nn.Module):
    """Heads of queries, two of which share keys and values; positions as turned pairs (Su et al., arXiv:2104.09864)."""

    cosines: Tensor
    sines: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads, self.shared_heads = sizes.heads, sizes.shared_heads
        self.size = size = sizes.width // sizes.heads
        self.query = nn.Linear(sizes.width, sizes.heads * size, bias=False)
        self.key = nn.Linear(sizes.width, sizes.shared_heads * size, bias=False)
        self.value = nn.Linear(sizes.width, sizes.shared_heads * size, bias=False)
        self.out = nn.Linear(sizes.heads * size, sizes.width, bias=False)
        speeds = 10000.0 ** (-torch.arange(0, size, 2) / size)
        angles = torch.arange(sizes.steps)[:, None] * speeds  # (T, size / 2)
        self.register_buffer("cosines", angles.cos(), persistent=False)
        self.register_buffer("sines", angles.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, width) in and out."""
        query = self._turn(self._split(self.query(x), self.heads))
        key = self._turn(self._split(self.key(x), self.shared_heads))
        value = self._split(self.value(x), self.shared_heads)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        return cast(Tensor, self.out(mixed.transpose(1, 2).flatten(2)))

    def _split(self, x: Tensor, heads: int) -> Tensor:
        """(N, T, heads * size) -> (N, heads, T, size)."""
        return x.unflatten(2, (heads, self.size)).transpose(1, 2)

    def _turn(self, x: Tensor) -> Tensor:
        """Every pair (left, right) by the angle of its position."""
        left, right = x.chunk(2, 3)
        turned = (left * self.cosines - right * self.sines, left * self.sines + right * self.cosines)
        return torch.cat(turned, 3)


class Gated(nn.Module):
    """out(silu(gate(x)) * up(x)): Shazeer, arXiv:2002.05202."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.gate = nn.Linear(sizes.width, sizes.hidden, bias=False)
        self.up = nn.Linear(sizes.width, sizes.hidden, bias=False)
        self.out = nn.Linear(sizes.hidden, sizes.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, width) in and out."""
        return cast(Tensor, self.out(F.silu(self.gate(x)) * self.up(x)))
