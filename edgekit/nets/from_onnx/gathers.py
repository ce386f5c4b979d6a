"""Rows for operators that pick numbers by their places, or give places."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.nets.from_onnx.graph import Operator
from edgekit.nets.from_onnx.untaken import UntakenError


def gather(op: Operator) -> Any:
    """Gather: rows of a stored matrix are an embedding; one fixed place of an axis is a selection.

    An embedding takes no places counted from the end: they are token ids, and torch refuses a negative one.
    """
    axis = op.attribute("axis", 0) % op.rank(0)
    size = op.shape(0)[axis]
    if op.is_known(0) and axis == 0 and op.rank(0) == 2 and op.fixed(0).array.dtype.kind == "f":
        layer = nn.utils.skip_init(nn.Embedding, *op.shape(0))  # type: ignore[no-untyped-call]
        layer.weight = op.weight(0)
        return op.layer(layer, op.tensor(1))
    if op.is_known(1):
        places = [place % size for place in op.ints(1)]
        if op.rank(1) == 0:
            return op.apply(torch.select, op.tensor(0), dim=axis, index=places[0])
        if op.rank(1) == 1 and places == list(range(places[0], places[0] + len(places))):
            return op.apply(torch.narrow, op.tensor(0), dim=axis, start=places[0], length=len(places))
    return op.apply(_gather, op.tensor(0), op.tensor(1), axis=axis)


def _places(index: Tensor, size: int) -> Tensor:
    """Places counted from the end become those counted from the beginning."""
    return torch.where(index < 0, index + size, index)


def _gather(x: Tensor, index: Tensor, axis: int) -> Tensor:
    flat = _places(index, x.shape[axis]).reshape(-1).to(torch.int64)
    return x.index_select(axis, flat).reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def gather_elements(op: Operator) -> Any:
    """GatherElements."""
    axis = op.attribute("axis", 0) % op.rank(0)
    return op.apply(_gather_elements, op.tensor(0), op.tensor(1), axis=axis)


def _gather_elements(x: Tensor, index: Tensor, axis: int) -> Tensor:
    index = _places(index, x.shape[axis]).to(torch.int64)
    return torch.gather(
        x[tuple(slice(s) if a != axis else slice(None) for a, s in enumerate(index.shape))], axis, index
    )


def gather_nd(op: Operator) -> Any:
    """GatherND without batch axes of its own."""
    if op.attribute("batch_dims", 0):
        raise UntakenError("batch_dims is not 0")
    return op.apply(_gather_nd, op.tensor(0), op.tensor(1))


def _gather_nd(x: Tensor, index: Tensor) -> Tensor:
    return x[tuple(index[..., i].to(torch.int64) for i in range(index.shape[-1]))]


def one_hot(op: Operator) -> Any:
    """OneHot: as a comparison with the places of the new axis."""
    (depth,) = op.ints(1)
    off, on = op.known(2).reshape(-1).tolist()
    axis = op.attribute("axis", -1)
    dtype = torch.from_numpy(np.array(op.known(2))).dtype
    return op.apply(_one_hot, op.tensor(0), depth=depth, off=off, on=on, axis=axis, dtype=dtype)


def _one_hot(x: Tensor, depth: int, off: float, on: float, axis: int, dtype: torch.dtype) -> Tensor:
    axis = axis % (x.dim() + 1)
    places = torch.arange(depth, device=x.device).reshape(-1, *(1,) * (x.dim() - axis))
    hit = _places(x, depth).unsqueeze(axis) == places
    return torch.where(hit, torch.tensor(on, dtype=dtype), torch.tensor(off, dtype=dtype))


def trilu(op: Operator) -> Any:
    """Trilu: the upper or the lower triangle."""
    diagonal = op.ints(1)[0] if op.has(1) else 0
    return op.apply(torch.triu if op.attribute("upper", 1) else torch.tril, op.tensor(0), diagonal=diagonal)


def top_k(op: Operator) -> Any:
    """TopK: values and places, in order."""
    count = op.ints(1)[0] if op.has(1) else op.attribute("k")
    axis, biggest = op.attribute("axis", -1), bool(op.attribute("largest", 1))
    return op.layer(TopK(count, axis, biggest), op.tensor(0), outputs=2)


class TopK(nn.Module):
    """The largest, or smallest, along an axis and their places."""

    def __init__(self, count: int, axis: int, biggest: bool) -> None:
        super().__init__()
        self.count, self.axis, self.biggest = count, axis, biggest

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values and places in order."""
        values, places = x.topk(self.count, dim=self.axis, largest=self.biggest, sorted=True)
        return values, places
