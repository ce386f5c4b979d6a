"""Rows for LSTM, GRU and RNN."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.nets.from_onnx.fold import Known
from edgekit.nets.from_onnx.graph import Operator
from edgekit.nets.from_onnx.network import Argument, Sizes
from edgekit.nets.from_onnx.untaken import UntakenError

# gates as ONNX stacks them -> as torch does: i o f c -> i f g o; z r h -> r z n
_LSTM, _GRU, _RNN = (0, 2, 3, 1), (1, 0, 2), (0,)


class Sequential(nn.Module):
    """A recurrent layer of torch's with inputs and outputs laid out as ONNX has them."""

    def __init__(self, layer: nn.LSTM | nn.GRU | nn.RNN, direction: str, *, batch_first: bool) -> None:
        super().__init__()
        self.layer, self.direction, self.batch_first = layer, direction, batch_first

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """(T, N, C) -> (T, directions, N, H) and the last states (directions, N, H); with `batch_first` N leads."""
        x = x if self.batch_first else x.transpose(0, 1)  # (N, T, C)
        x = x.flip(1) if self.direction == "reverse" else x
        # a state that is stored for one sample is that of every sample
        swapped = [s.transpose(0, 1) if self.batch_first else s for s in states]
        wide = [s.expand(-1, x.shape[0], -1).contiguous() for s in swapped]
        start = None if not wide else tuple(wide) if isinstance(self.layer, nn.LSTM) else wide[0]
        found, last = self.layer(x, start)
        found = found.flip(1) if self.direction == "reverse" else found
        ends = last if isinstance(last, tuple) else (last,)
        found = found.reshape(*found.shape[:2], -1, self.layer.hidden_size)  # (N, T, directions, H)
        if self.batch_first:
            return found, *(end.transpose(0, 1) for end in ends)
        return found.permute(1, 2, 0, 3), *ends


def lstm(op: Operator) -> Any:
    """LSTM; peepholes and clipping are not torch's."""
    if op.has(7) or op.attribute("input_forget", 0):
        raise UntakenError("it has peepholes, or couples its gates")
    _activations(op, ["Sigmoid", "Tanh", "Tanh"])
    return _recurrent(op, nn.LSTM, _LSTM, states=(5, 6))


def gru(op: Operator) -> Any:
    """GRU where the reset gate comes after the product, as torch has it."""
    if not op.attribute("linear_before_reset", 0):
        raise UntakenError("its reset gate comes before the product (linear_before_reset = 0), and torch's after it")
    _activations(op, ["Sigmoid", "Tanh"])
    return _recurrent(op, nn.GRU, _GRU, states=(5,))


def rnn(op: Operator) -> Any:
    """RNN with tanh or relu."""
    found = [name.decode().lower() for name in op.attributes.get("activations") or (b"tanh",)]
    if len(set(found)) != 1 or found[0] not in ("tanh", "relu"):
        raise UntakenError(f"its activations are {', '.join(found)}")
    return _recurrent(op, nn.RNN, _RNN, states=(5,), nonlinearity=found[0])


def _activations(op: Operator, wanted: list[str]) -> None:
    found = [name.decode() for name in op.attributes.get("activations") or ()]
    if found and [name.lower() for name in found] != [name.lower() for name in wanted] * (len(found) // len(wanted)):
        raise UntakenError(f"its activations are {', '.join(found)}")


def _recurrent(op: Operator, kind: Any, order: tuple[int, ...], states: tuple[int, ...], **options: Any) -> Any:
    if op.attribute("clip") is not None:
        raise UntakenError("it clips its gates")
    if op.has(4) and not _whole_sequences(op):
        raise UntakenError("its sequences differ in length (sequence_lens)")
    if not (op.is_known(1) and op.is_known(2) and (not op.has(3) or op.is_known(3))):
        raise UntakenError("its weights are computed from the network's input")
    hidden, inside = op.attribute("hidden_size") or op.shape(2)[2], op.shape(1)[2]
    direction, first = op.attribute("direction", "forward"), bool(op.attribute("layout", 0))
    both = direction == "bidirectional"
    layer = kind(inside, hidden, batch_first=True, bidirectional=both, bias=op.has(3), device="meta", **options)
    layer = layer.to_empty(device="cpu")  # no weights are drawn: the file's are put in
    for d in range(1 + both):
        ending = "_l0_reverse" if d else "_l0"
        _put(layer, f"weight_ih{ending}", op, 1, f"{d}", lambda w, d=d: _reorder(w[d], order))
        _put(layer, f"weight_hh{ending}", op, 2, f"{d}", lambda w, d=d: _reorder(w[d], order))
        if op.has(3):
            _put(layer, f"bias_ih{ending}", op, 3, f"{d} in", lambda b, d=d: _reorder(np.split(b[d], 2)[0], order))
            _put(layer, f"bias_hh{ending}", op, 3, f"{d} state", lambda b, d=d: _reorder(np.split(b[d], 2)[1], order))
    layer = Sequential(layer, direction, batch_first=first)
    count = 3 if kind is nn.LSTM else 2
    found = op.layer(layer, op.tensor(0), *_starts(op, states), outputs=count)
    return found[: len(op.outputs)]


def _put(layer: nn.Module, name: str, op: Operator, i: int, how: str, change: Any) -> None:
    setattr(layer, name, op.weight(i, f"{op.kind} {how}", change))


def _reorder(stacked: Any, order: tuple[int, ...]) -> Any:
    parts = np.split(stacked, len(order))
    return np.concatenate([parts[i] for i in order])


def _whole_sequences(op: Operator) -> bool:
    value = op.value(4)
    length = op.shape(0)[1 if op.attribute("layout", 0) else 0]
    return isinstance(value, Known) and all((lengths == length).all() for lengths in value.at)


def _starts(op: Operator, states: tuple[int, ...]) -> list[Argument]:
    """Initial states as arguments; none where they are zeros, which is what torch begins with."""
    given = [i for i in states if op.has(i)]
    if all(_is_zero(op, i) for i in given):
        return []
    found: list[Argument] = []
    for i in states:
        if op.has(i):
            found.append(op.tensor(i))
        else:
            other = op.shape(given[0])
            zeros = Sizes(tuple(1 if axis == len(other) - 2 else size for axis, size in enumerate(other)))
            found.append(op.apply_part(_zeros, "zeros", zeros).as_argument)
    return found


def _is_zero(op: Operator, i: int) -> bool:
    value = op.value(i)
    if isinstance(value, Known):
        return not any(array.any() for array in value.at)
    return value.zero


def _zeros(sizes: tuple[int, ...]) -> Tensor:
    return torch.zeros(sizes)
