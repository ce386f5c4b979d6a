"""What a network returned, as a list of tensors."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def tensors_of(result: object) -> list[Tensor]:
    """The tensors of what a network returned, a tensor, or a tuple, list or dict of them, in their order."""
    if isinstance(result, Tensor):
        return [result]
    assert isinstance(result, tuple | list | Mapping)
    values = result.values() if isinstance(result, Mapping) else result
    return [tensor for value in values for tensor in tensors_of(value)]
