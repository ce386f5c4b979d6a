"""A recurrent network of one's own: one step, and what it hands to the next."""

import torch
from torch import Tensor, nn

from edgekit.nets.recurrent import Recurrent, State


class Reader(Recurrent):
    """Reads a picture row by row. A gate decides, unit by unit, how much of the memory a row replaces."""

    def __init__(self, units: int, classes: int) -> None:
        super().__init__()
        self.units = units
        self.from_row, self.from_memory = nn.Linear(8, 2 * units), nn.Linear(units, 2 * units, bias=False)
        self.answer = nn.Linear(units, classes)

    @property
    def states(self) -> tuple[State, ...]:
        """One memory in [-1, 1]. A state that sums without bounds would say `accumulates=True`, and stay in float."""
        return (State("memory", self.units),)

    def step(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Row (N, 8), memory (N, units) -> the next memory."""
        (memory,) = state
        gate, candidate = (self.from_row(x) + self.from_memory(memory)).chunk(2, 1)
        gate = torch.sigmoid(gate)
        return (gate * memory + (1 - gate) * torch.tanh(candidate),)

    def head(self, *state: Tensor) -> Tensor:
        """The answer (N, classes) that it would give now."""
        logits: Tensor = self.answer(state[0])
        return logits


def make_network(units: int = 48, classes: int = 10) -> nn.Module:
    """(N, 8, 8), rows one after the other -> (N, classes)."""
    return Reader(units, classes)
