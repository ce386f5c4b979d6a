"""Rows for operators that work number by number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.nets.from_onnx.graph import Operator, Value
from edgekit.nets.from_onnx.network import Apply
from edgekit.nets.from_onnx.untaken import UntakenError

_TYPES: dict[int, torch.dtype] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
}


def unary(function: Callable[[Tensor], Tensor] | type[nn.Module]) -> Callable[[Operator], Any]:
    """A row for a function, or a layer without options, of one tensor."""

    def row(op: Operator) -> Any:
        made = function() if isinstance(function, type) else Apply(function)
        return op.layer(made, op.tensor(0))

    return row


def binary(function: Callable[[Any, Any], Tensor]) -> Callable[[Operator], Any]:
    """A row for a function of two tensors. One number of the graph stands in the layer itself, not beside it."""

    def row(op: Operator) -> Any:
        for i in (0, 1):
            number = op.number(i)
            if number is not None and not isinstance(number, bool) and op.rank(i) <= op.rank(1 - i):
                return op.layer(WithNumber(function, number, first=i == 0), op.tensor(1 - i))
        return op.apply(function, op.tensor(0), op.tensor(1))

    return row


class WithNumber(nn.Module):
    """A function of a tensor and a number."""

    def __init__(self, function: Callable[[Any, Any], Tensor], number: float, *, first: bool) -> None:
        super().__init__()
        self.function, self.number, self.first = function, number, first

    def forward(self, x: Tensor) -> Tensor:
        """The function's result, the number being its first argument or its second."""
        return self.function(self.number, x) if self.first else self.function(x, self.number)

    def extra_repr(self) -> str:
        """The function's name and the number."""
        return f"{getattr(self.function, '__name__', self.function)}, {self.number!r}, first={self.first}"


def divide(a: Any, b: Any) -> Tensor:
    """a / b; of integers the quotient without its fraction, as ONNX has it."""
    floating = any(x.is_floating_point() if isinstance(x, Tensor) else isinstance(x, float) for x in (a, b))
    if floating:
        # a product with a number is what every runtime has in integers
        return a * (1 / b) if isinstance(b, float) and b else a / b  # type: ignore[no-any-return]
    return torch.div(torch.as_tensor(a), b, rounding_mode="trunc")


def power(a: Any, b: Any) -> Tensor:
    """a ** b in the type of a."""
    if isinstance(b, int | float) and b == 2:
        return a * a  # type: ignore[no-any-return]
    found = torch.pow(a, b)
    return found.to(a.dtype) if isinstance(a, Tensor) else found


def modulo(op: Operator) -> Any:
    """Mod: the sign of the divisor, or with fmod of the dividend."""
    return binary(torch.fmod if op.attribute("fmod", 0) else torch.remainder)(op)


def folded(function: Callable[[Tensor, Tensor], Tensor], *, mean: bool = False) -> Callable[[Operator], Any]:
    """A row for a function of any number of tensors, two by two."""

    def row(op: Operator) -> Any:
        if len(op.inputs) == 2 and not mean:
            return binary(function)(op)
        return op.apply(_fold, *(op.tensor(i) for i in range(len(op.inputs))), by=function, mean=mean)

    return row


def _fold(*tensors: Tensor, by: Callable[[Tensor, Tensor], Tensor], mean: bool) -> Tensor:
    found = tensors[0]
    for tensor in tensors[1:]:
        found = by(found, tensor)
    return found / len(tensors) if mean else found


def smaller(a: Any, b: Any) -> Tensor:
    """The smaller of two, one of which may be a number."""
    return _clamp_or(a, b, torch.minimum, "max")


def larger(a: Any, b: Any) -> Tensor:
    """The larger of two, one of which may be a number."""
    return _clamp_or(a, b, torch.maximum, "min")


def _clamp_or(a: Any, b: Any, function: Callable[[Tensor, Tensor], Tensor], bound: str) -> Tensor:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return function(a, b)
    tensor, number = (a, b) if isinstance(a, Tensor) else (b, a)
    return torch.clamp(tensor, **{bound: number})


def cast(op: Operator) -> Any:
    """Cast to one of the types that torch and ONNX share."""
    wanted = _TYPES.get(op.attribute("to"))
    if wanted is None:
        raise UntakenError(f"it casts to type {op.attribute('to')}, which no network here computes with")
    return op.apply(_to, op.tensor(0), dtype=wanted)


def cast_like(op: Operator) -> Any:
    """CastLike: to the type of the second input."""
    value = op.value(1)
    like = torch.from_numpy(np.zeros(1, op.known(1).dtype)) if op.is_known(1) else value.at[0]
    assert isinstance(like, Tensor)
    return op.apply(_to, op.tensor(0), dtype=like.dtype)


def _to(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x if x.dtype == dtype else x.to(dtype)


def where(op: Operator) -> Any:
    """Where: a number of the graph stays a number, in the type of the other branch."""
    numbers = [op.number(i) for i in (1, 2)]
    tensors = [op.tensor(0), *(op.tensor(i) for i in (1, 2) if numbers[i - 1] is None)]
    if all(number is not None for number in numbers):
        return op.apply(torch.where, op.tensor(0), op.tensor(1), op.tensor(2))
    return op.apply(_where, *tensors, numbers=tuple(numbers))


def _where(condition: Tensor, *tensors: Tensor, numbers: tuple[float | None, float | None]) -> Tensor:
    waiting = iter(tensors)
    first, second = (next(waiting) if number is None else number for number in numbers)
    return torch.where(condition, first, second)


def passed(op: Operator) -> Value:
    """What an operator that does nothing in inference gives: its first input."""
    return op.value(0)
