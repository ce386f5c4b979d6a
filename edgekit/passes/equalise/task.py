"""What every method is given and gives back, and running the program with other stored tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx

from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.nets.program import Program
from edgekit.numerics.equalise import class_maxima
from edgekit.passes.context import Context
from edgekit.passes.equalise.flow import Flow
from edgekit.schema.passes import EqualiseOptions

Tensors: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True)
class Task:
    """A network to be rewritten, and how.

    Attributes:
        program: of the network as it is written, at batch 1.
        flow: how far factors on its channels reach.
    """

    model: Model
    program: Program
    flow: Flow
    options: EqualiseOptions
    context: Context

    def samples(self) -> Samples:
        """The calibration samples that `options` asks for.

        Raises:
            PassError: there are none.
        """
        found = self.context.splits.calibration.head(self.options.samples)
        if len(found) == 0:
            raise PassError(
                "the calibration split is empty",
                "step equalise",
                "smooth, awq and absorb_bias need samples; cross_layer and hadamard do not",
            )
        return found


@dataclass(frozen=True)
class Rewrite:
    """What a method did.

    Attributes:
        tensors: every stored tensor after it, float64, by name.
        factors: activation name -> what its values were multiplied by, broadcast over it; None where they cannot be
            compared. An activation that is not named is unchanged.
        left: layer -> why its channels were left as they are.
        always: whether the function is the same on every input, not on calibration samples only.
    """

    tensors: Tensors
    factors: Mapping[str, Tensor | None] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)
    always: bool = True


Method: TypeAlias = Callable[[Task, Tensors], Rewrite]


class Run(fx.Interpreter):
    """A program whose stored tensors are replaced by `tensors`, in the precision of `dtype`.

    Args:
        see: called with the name and the value of every activation.
    """

    def __init__(
        self, program: Program, tensors: Tensors, see: Callable[[str, Tensor], None], dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(program.module)
        self._names = {node.name: name for node, name in program.names.items()}
        self._tensors, self._see, self._dtype = {name: t.to(dtype) for name, t in tensors.items()}, see, dtype

    def run_node(self, n: fx.Node) -> Any:
        """The node's value."""
        value = super().run_node(n)
        if isinstance(value, Tensor):
            value = value.to(self._dtype) if value.is_floating_point() else value
            if n.name in self._names:
                self._see(self._names[n.name], value)
        return value

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A stored tensor as it is now."""
        own = self._tensors.get(str(target))
        return super().get_attr(target, args, kwargs) if own is None else own


def one_by_one(samples: Samples) -> Iterator[tuple[Tensor, ...]]:
    """Inputs of batch 1."""
    return (samples.batch(index, index + 1) for index in range(len(samples)))


def channel_maxima(task: Task, tensors: Tensors, names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Largest magnitude of every class in some activations over the calibration samples, each (number of classes,).

    Args:
        names: activation name -> the class of each of its elements.
    """
    seen = {name: torch.zeros(task.flow.count) for name in names}

    def see(name: str, value: Tensor) -> None:
        if name in names:
            seen[name] = torch.maximum(seen[name], class_maxima(value, names[name], task.flow.count))

    run, samples = Run(task.program, tensors, see), task.samples()
    with torch.no_grad():
        for index, inputs in enumerate(one_by_one(samples)):
            run.run(*inputs)
            task.context.progress(index + 1, len(samples), "equalising")
    return {name: maxima.double() for name, maxima in seen.items()}
