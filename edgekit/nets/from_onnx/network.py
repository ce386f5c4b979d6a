"""A network that is a list of layers with names, carried out in order. What a graph becomes; no source is generated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class PerSample:
    """An integer that grows with the batch: `at_zero` + `each` * batch."""

    each: int
    at_zero: int = 0

    def at(self, batch: int) -> int:
        """Its value at a batch."""
        return self.at_zero + self.each * batch


@dataclass(frozen=True)
class Made:
    """A tensor that is an input of the network, or that a layer gives."""

    name: str


@dataclass(frozen=True)
class Stored:
    """A parameter or buffer of the network itself, by its path."""

    name: str


@dataclass(frozen=True)
class Sizes:
    """Integers, handed to a layer as a tuple once the batch is known."""

    values: tuple[int | PerSample, ...]

    def at(self, batch: int) -> tuple[int, ...]:
        """Their values at a batch."""
        return tuple(value.at(batch) if isinstance(value, PerSample) else value for value in self.values)


Argument = Made | Stored | Sizes | None


@dataclass(frozen=True)
class Line:
    """One layer called with arguments; what it gives has names.

    Attributes:
        operator: of the graph that this is, or is a part of, for messages.
    """

    layer: str
    arguments: tuple[Argument, ...]
    outputs: tuple[str, ...]
    operator: str = ""


class Apply(nn.Module):
    """A function of tensors without weights of its own, as a layer."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        super().__init__()
        self.function = function
        self.options = options

    def forward(self, *arguments: Any) -> Any:
        """The function's result."""
        return self.function(*arguments, **self.options)

    def extra_repr(self) -> str:
        """The function's name and its options."""
        name = getattr(self.function, "__name__", str(self.function))
        return ", ".join([name, *(f"{key}={value!r}" for key, value in self.options.items())])


@dataclass
class Wiring:
    """What a network of layers is besides its layers: names of inputs and outputs, and the lines between."""

    inputs: tuple[str, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)  # name -> tensor that it is
    lines: list[Line] = field(default_factory=list)


class LayerList(nn.Module):
    """Layers and stored tensors under dotted names, and the order in which they are called.

    Called with one tensor for each input, batch first. Gives the output, or a dict of outputs where there are several.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wiring = Wiring()

    def put(self, name: str, value: nn.Module | Tensor) -> None:
        """Take in a layer, parameter or buffer as `name`; modules on the way are made."""
        *path, leaf = name.split(".")
        owner: nn.Module = self
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        if isinstance(value, nn.Module):
            owner.add_module(leaf, value)
        elif isinstance(value, nn.Parameter):
            owner.register_parameter(leaf, value)
        else:
            owner.register_buffer(leaf, value)

    def stored(self, name: str) -> Tensor:
        """The parameter or buffer called `name`."""
        path, _, leaf = name.rpartition(".")
        value = getattr(self.get_submodule(path), leaf)
        assert isinstance(value, Tensor)
        return value

    def carry_out(self, line: Line, values: Mapping[str, Any], batch: int) -> Sequence[Any]:
        """What one line gives."""
        arguments: list[Any] = []
        for argument in line.arguments:
            if isinstance(argument, Made):
                arguments.append(values[argument.name])
            elif isinstance(argument, Stored):
                arguments.append(self.stored(argument.name))
            else:
                arguments.append(argument.at(batch) if isinstance(argument, Sizes) else None)
        found = self.get_submodule(line.layer)(*arguments)
        return found if isinstance(found, tuple | list) else (found,)

    def forward(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        """One tensor for each input -> the output, or outputs by name."""
        values: dict[str, Any] = dict(zip(self.wiring.inputs, inputs, strict=True))
        batch = inputs[0].shape[0]
        last = {a.name: i for i, line in enumerate(self.wiring.lines) for a in line.arguments if isinstance(a, Made)}
        kept = set(self.wiring.outputs.values())
        for i, line in enumerate(self.wiring.lines):
            values.update(zip(line.outputs, self.carry_out(line, values, batch), strict=False))
            for argument in line.arguments:
                if isinstance(argument, Made) and last[argument.name] == i and argument.name not in kept:
                    values.pop(argument.name, None)
        found = {name: values[tensor] for name, tensor in self.wiring.outputs.items()}
        return next(iter(found.values())) if len(found) == 1 else found


def repeat_for_batch(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """`x` expanded to `sizes`: what a file stores for one sample, for every sample of the batch."""
    return x.expand(*sizes)
