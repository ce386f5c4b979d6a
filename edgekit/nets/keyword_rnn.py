"""The LSTM and GRU networks of Hello Edge for keyword spotting: 10 MFCC a step, one linear layer on the last state.

Source: Zhang et al., Hello Edge: Keyword Spotting on Microcontrollers, arXiv:1711.07128, and the trained graphs of
github.com/ARM-software/ML-KWS-for-MCU. Both cells multiply input and state by weights of their own and add the
products, so that each product has a grid of its own when it is quantised: MFCC reach a hundred times further than a
state does.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.nets.recurrent import Recurrent, State

# One 8-bit grid holds all coefficients, of which the first reaches from -250 (digital silence) to 30 and the last ones
# to 4. So the data come as (MFCC - FEATURE_OFFSETS) / FEATURE_SCALES, `mean` and `std` of the calibration set, and the
# first weights and biases undo that. Scales are the least powers of two that keep every coefficient of the calibration
# samples, times 1.3, within the range of the first: louder speech than that is heard, too.
FEATURE_OFFSETS = (-112.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
FEATURE_SCALES = (8.0, 2.0, 2.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5)


def keyword_lstm(units: int, classes: int = 12) -> nn.Module:
    """Basic LSTM: (N, T, 10) -> (N, classes). 118 units are Hello Edge's small network, 214 its medium one."""
    return KeywordLstm(units, classes, FEATURE_OFFSETS, FEATURE_SCALES)


def keyword_gru(units: int, classes: int = 12) -> nn.Module:
    """GRU of TensorFlow: (N, T, 10) -> (N, classes). 154 units are Hello Edge's small network."""
    return KeywordGru(units, classes, FEATURE_OFFSETS, FEATURE_SCALES)


class LstmCell(nn.Module):
    """One step of an LSTM, with the parameters of a one-layer `torch.nn.LSTM` under the same names.

    Gates in the order input, forget, cell, output; Hochreiter and Schmidhuber 1997, forget gate of Gers et al. 2000.
    """

    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor
    offsets: Tensor
    scales: Tensor

    def __init__(self, units: int, offsets: tuple[float, ...], scales: tuple[float, ...]) -> None:
        super().__init__()
        inputs = len(scales)
        bound = units**-0.5
        for name, shape in (
            ("weight_ih_l0", (4 * units, inputs)),
            ("weight_hh_l0", (4 * units, units)),
            ("bias_ih_l0", (4 * units,)),
            ("bias_hh_l0", (4 * units,)),
        ):
            self.register_parameter(name, nn.Parameter(torch.empty(shape).uniform_(-bound, bound)))
        self.register_buffer("offsets", torch.tensor(offsets), persistent=False)
        self.register_buffer("scales", torch.tensor(scales), persistent=False)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C), (N, units), (N, units) -> next h and c."""
        bias = self.bias_ih_l0 + self.bias_hh_l0 + F.linear(self.offsets, self.weight_ih_l0)
        from_input = F.linear(x, self.weight_ih_l0 * self.scales, bias)
        i, f, g, o = (from_input + F.linear(h, self.weight_hh_l0)).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class TwoInputLinear(nn.Module):
    """A linear layer of [input, state] side by side, as two products and their sum."""

    offsets: Tensor
    scales: Tensor

    def __init__(self, units: int, outputs: int, offsets: tuple[float, ...], scales: tuple[float, ...]) -> None:
        super().__init__()
        self.inputs = inputs = len(scales)
        bound = (inputs + units) ** -0.5
        self.weight = nn.Parameter(torch.empty(outputs, inputs + units).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))
        self.register_buffer("offsets", torch.tensor(offsets), persistent=False)
        self.register_buffer("scales", torch.tensor(scales), persistent=False)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """(N, inputs), (N, units) -> (N, outputs)."""
        of_input, of_state = self.weight[:, : self.inputs], self.weight[:, self.inputs :]
        from_input = F.linear(x, of_input * self.scales, self.bias + F.linear(self.offsets, of_input))
        return from_input + F.linear(h, of_state)


class KeywordLstm(Recurrent):
    """An LSTM and a linear layer on its last h."""

    def __init__(self, units: int, classes: int, offsets: tuple[float, ...], scales: tuple[float, ...]) -> None:
        super().__init__()
        self.units = units
        self.lstm = LstmCell(units, offsets, scales)
        self.fc = nn.Linear(units, classes)

    @property
    def states(self) -> tuple[State, ...]:
        """h, and c, which the cell adds to."""
        return State("h", self.units), State("c", self.units, accumulates=True)

    def step(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """(N, C), h, c -> next h and c."""
        return cast(tuple[Tensor, ...], self.lstm(x, *state))

    def head(self, *state: Tensor) -> Tensor:
        """(N, classes)."""
        return cast(Tensor, self.fc(state[0]))


class KeywordGru(Recurrent):
    """A GRU whose reset gate acts before the candidate's product (`torch.nn.GRU` has it behind), and a linear layer.

    Source: Cho et al., arXiv:1406.1078, with the update gate the other way round, as TensorFlow's GRUCell has it.
    """

    def __init__(self, units: int, classes: int, offsets: tuple[float, ...], scales: tuple[float, ...]) -> None:
        super().__init__()
        self.units = units
        self.gates = TwoInputLinear(units, 2 * units, offsets, scales)
        self.candidate = TwoInputLinear(units, units, offsets, scales)
        self.fc = nn.Linear(units, classes)

    @property
    def states(self) -> tuple[State, ...]:
        """h. It lies in [-1, 1] and is a mean of itself and the candidate: 8 bits of it lose nothing."""
        return (State("h", self.units),)

    def step(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """(N, C), h -> next h.

        q + u * (h - q) has one product less, but h - q lies in [-2, 2]: in 8 bits that is a quarter more error.
        """
        (h,) = state
        reset, update = self.gates(x, h).sigmoid().chunk(2, 1)
        q = self.candidate(x, reset * h).tanh()
        return (update * h + (1 - update) * q,)

    def head(self, *state: Tensor) -> Tensor:
        """(N, classes)."""
        return cast(Tensor, self.fc(state[0]))
