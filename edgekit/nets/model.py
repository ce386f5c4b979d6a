"""The Model record: a network and everything needed to build it again in a new process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from edgekit.nets.edits import Edit
from edgekit.nets.quantisation import QuantisationTable
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import DType, InputSpec, OutputSpec

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Model:
    """A network + where it came from + what was done to it.

    `network` in another process is: call `source.factory`, apply `edits` in order, load the weights.
    The network is in eval mode unless a pass is training it. A pass never changes the Model it was given.

    Attributes:
        structure: of a network that came from a file: its graph without weights, in place of a factory.
    """

    network: nn.Module
    source: ModelSource
    outputs: tuple[OutputSpec, ...]
    edits: tuple[Edit, ...] = ()
    history: tuple[str, ...] = ()
    table: QuantisationTable | None = None
    structure: bytes | None = None

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The network's inputs, batch first."""
        return self.source.inputs

    def example(self, batch: int = 1, seed: int = 0) -> tuple[torch.Tensor, ...]:
        """Random inputs, one tensor per input spec, `batch` in place of the first dimension.

        Floats are standard normal. Integers are 0 or 1, which are in the range of any table that they may look into.
        """
        generator = torch.Generator().manual_seed(seed)
        return tuple(_random((batch, *spec.shape[1:]), spec.dtype, generator) for spec in self.inputs)

    def with_(
        self, network: nn.Module, step: str, edits: Sequence[Edit] = (), table: QuantisationTable | None = None
    ) -> Model:
        """The same model after a step. A changed network drops a table made for the old one unless given anew."""
        return replace(
            self, network=network, edits=self.edits + tuple(edits), history=(*self.history, step), table=table
        )


def _random(shape: tuple[int, ...], dtype: DType, generator: torch.Generator) -> torch.Tensor:
    kind: torch.dtype = getattr(torch, dtype)
    if kind.is_floating_point:
        return torch.randn(shape, generator=generator).to(kind)
    return torch.randint(0, 2, shape, generator=generator).to(kind)
