"""A graph on its way to a network: values, and the operator that a row of the table turns into layers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from edgekit.nets.from_onnx.fold import Array, Known
from edgekit.nets.from_onnx.names import Names
from edgekit.nets.from_onnx.network import Apply, Argument, LayerList, Line, Made, PerSample, Sizes, Stored
from edgekit.nets.from_onnx.untaken import UntakenError


@dataclass(frozen=True)
class Ref:
    """A tensor that the network makes when it runs, with its shape and type at two batches.

    Attributes:
        zero: whether it is known to hold zeros only, as first states of a recurrent layer do.
        slower: steps of the axis that holds the batch before the sample changes: more than 1 where a reshape has
            merged an axis before the batch with it.
    """

    name: str
    at: tuple[Tensor, Tensor]
    zero: bool = False
    slower: int = 1

    @property
    def as_argument(self) -> Made:
        """The same as an argument of a layer."""
        return Made(self.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape at the batch of the file."""
        return tuple(self.at[0].shape)

    @property
    def next_shape(self) -> tuple[int, ...]:
        """Shape at a batch one larger."""
        return tuple(self.at[1].shape)

    @property
    def batch_axes(self) -> tuple[int, ...]:
        """Axes whose size depends on the batch."""
        return tuple(i for i, (a, b) in enumerate(zip(self.shape, self.next_shape, strict=True)) if a != b)


Value = Ref | Known


@dataclass(frozen=True)
class Reader:
    """A node that reads a tensor. The network's own outputs count as one of kind `output`."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Workbench:
    """The network as far as it is made, and what is known of every tensor. Layers run on shapes alone.

    Args:
        batch: of the file; what grows is seen at this batch and one larger.
        readers: of every tensor of the graph.
        one_batch: whether the file was written for that batch only.
    """

    def __init__(self, names: Names, batch: int, readers: Mapping[str, list[Reader]], *, one_batch: bool) -> None:
        self.network = LayerList()
        self.one_batch = one_batch
        self.readers = readers
        self.batches = (batch, batch + 1)
        self.values: dict[str, Value] = {}
        self.done_behind: dict[str, str] = {}  # tensor of an operator -> that of the one behind it, which is in it
        self._names = names
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._running: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        self._parameters: dict[tuple[str, str], nn.Parameter] = {}
        self._stored: dict[int, tuple[Known, Stored]] = {}  # with what the id is of, so that it stays its own

    def take_input(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """An input of the network, batch first."""
        with self._fake:
            pair = (torch.empty(shape, dtype=dtype), torch.empty((shape[0] + 1, *shape[1:]), dtype=dtype))
        self.values[name] = self._remember(name, pair)

    def add(self, module: nn.Module, arguments: tuple[Argument, ...], wanted: str, operator: str, **how: Any) -> Any:
        """Call a layer; what it gives: one Ref, or a tuple of them where the layer gives several."""
        path = self._names.take(wanted, how.get("weights", ()))
        self.network.put(path, module.eval())
        outputs = [f"{path}:{i}" for i in range(how.get("outputs", 1))]
        line = Line(path, arguments, tuple(outputs), operator)
        found = []
        for batch, values in zip(self.batches, self._running, strict=True):
            try:
                with _no_log(), self._fake, torch.no_grad():
                    found.append(self.network.carry_out(line, values, batch))
            except Exception as err:  # torch raises many kinds; all of them say that shapes do not fit
                at = "" if batch == self.batches[0] else f" at batch {batch}, though it does at {self.batches[0]}"
                raise UntakenError(f"it does not fit its inputs{at}: {str(err).splitlines()[0][:200]}") from err
        self.network.wiring.lines.append(line)
        refs = tuple(self._remember(name, (a, b)) for name, a, b in zip(outputs, *found, strict=False))
        refs = tuple(replace(ref, slower=self._slower(ref, how.get("sources", ()))) for ref in refs)
        return refs if how.get("outputs", 1) > 1 else refs[0]

    def store(self, known: Known, wanted: str) -> Stored:
        """A tensor of the network's own: a parameter where it is a weight of the file, else a buffer."""
        if id(known) not in self._stored:
            tensor: Tensor = torch.from_numpy(np.array(known.array))
            if known.origin is not None and tensor.is_floating_point() and tensor.dim():
                tensor = nn.Parameter(tensor)
            path = self._names.tensor(known.origin, wanted)
            self.network.put(path, tensor)
            self._stored[id(known)] = (known, Stored(path))
        return self._stored[id(known)][1]

    def parameter(self, known: Known, how: str, change: Callable[[Array], Array]) -> nn.Parameter:
        """A weight; the same one for every layer that reads the same tensor of the file in the same way."""
        made = nn.Parameter(torch.from_numpy(np.ascontiguousarray(change(known.array), dtype=np.float32).copy()))
        return made if known.origin is None else self._parameters.setdefault((known.origin, how), made)

    @staticmethod
    def _slower(ref: Ref, sources: Sequence[Ref]) -> int:
        """What an axis of samples that an operator leaves as long as it was has inside."""
        sizes = {ref.shape[axis] for axis in ref.batch_axes}
        same = (s.slower for s in sources if sizes & {s.shape[axis] for axis in s.batch_axes})
        return max(same, default=1)

    def _remember(self, name: str, pair: tuple[Tensor, Tensor]) -> Ref:
        for values, tensor in zip(self._running, pair, strict=True):
            values[name] = tensor
        return Ref(name, pair)


@dataclass(frozen=True)
class Operator:
    """One node of the graph, as a row of the table sees it."""

    kind: str
    name: str
    opset: int
    attributes: Mapping[str, Any]
    inputs: tuple[Value | None, ...]
    outputs: tuple[str, ...]
    bench: Workbench

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute; text as str."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def has(self, i: int) -> bool:
        """Whether the i-th input is given."""
        return i < len(self.inputs) and self.inputs[i] is not None

    def value(self, i: int) -> Value:
        """The i-th input."""
        found = self.inputs[i] if i < len(self.inputs) else None
        if found is None:
            raise UntakenError(f"input {i} is missing")
        return found

    def known(self, i: int) -> Array:
        """The i-th input, which must be known before the network runs."""
        return self.fixed(i).array

    def fixed(self, i: int) -> Known:
        """The same with what is known of it."""
        value = self.value(i)
        if not isinstance(value, Known):
            raise UntakenError(f"input {i} is computed from the network's input, and only a stored one is taken")
        return value

    def is_known(self, i: int) -> bool:
        """Whether the i-th input is known before the network runs, and the same at every batch."""
        value = self.inputs[i] if i < len(self.inputs) else None
        return isinstance(value, Known) and value.fixed

    def ints(self, i: int) -> list[int]:
        """The i-th input as fixed integers."""
        return [int(value) for value in self.known(i).reshape(-1)]

    def number(self, i: int) -> float | int | None:
        """The i-th input where it is one number that is written in the graph; None where it is a tensor or a weight."""
        value = self.inputs[i] if i < len(self.inputs) else None
        if isinstance(value, Known) and value.fixed and value.plain and value.array.size == 1:
            return value.array.reshape(-1)[0].item()  # type: ignore[no-any-return]
        return None

    def sizes(self, i: int) -> tuple[int | PerSample, ...]:
        """The i-th input as integers, which may grow with the batch."""
        return self.fixed(i).counts(self.bench.batches)

    def shape(self, i: int) -> tuple[int, ...]:
        """Shape of the i-th input at the batch of the file."""
        value = self.value(i)
        return value.shape if isinstance(value, Ref) else tuple(value.at[0].shape)

    def rank(self, i: int) -> int:
        """Number of axes of the i-th input."""
        return len(self.shape(i))

    def tensor(self, i: int) -> Argument:
        """The i-th input as an argument of a layer."""
        value = self.value(i)
        if isinstance(value, Ref):
            return Made(value.name)
        if value.fixed:
            return self.bench.store(value, f"{self.name}_value{i}")
        if value.at[0].dtype.kind not in "iu":
            raise UntakenError(f"input {i} is a number that depends on the batch")
        shape = value.at[0].shape
        made = self.layer(Apply(_integers, shape=shape), Sizes(value.counts(self.bench.batches)), part="sizes")
        return Made(made.name)

    def weight(self, i: int, how: str = "", change: Callable[[Array], Array] = lambda array: array) -> nn.Parameter:
        """The i-th input, a stored tensor, as a weight; `how` names the change that is made to it."""
        return self.bench.parameter(self.fixed(i), how, change)

    def bias_behind(self, channels: int, axes: int) -> Known | None:
        """A stored number for each channel that only an Add behind this operator adds; that Add is then done.

        Args:
            axes: that stand behind the channels.
        """
        readers = self.bench.readers.get(self.outputs[0], [])
        if len(readers) != 1 or readers[0].kind != "Add":
            return None
        others = [name for name in readers[0].inputs if name != self.outputs[0]]
        value = self.bench.values.get(others[0]) if len(others) == 1 else None
        if not isinstance(value, Known) or not value.fixed or value.array.dtype != np.float32:
            return None
        shape = value.array.shape
        wanted = (channels, *(1,) * axes)
        if shape[-len(wanted) :] != wanted or any(size != 1 for size in shape[: -len(wanted)]):
            return None
        if len(shape) > axes + 2 + (axes == 0):
            return None
        self.bench.done_behind[self.outputs[0]] = readers[0].outputs[0]
        return value

    def layer(self, module: nn.Module, *arguments: Argument | Ref, part: str = "", outputs: int = 1) -> Any:
        """Call `module`; one Ref, or a tuple of `outputs` of them.

        Args:
            part: what it is of the operator, where that takes several layers.
        """
        origins = [value.origin for value in self.inputs if isinstance(value, Known) and value.origin]
        has_weights = next(module.parameters(), None) is not None
        behind = self.bench.done_behind.get(self.outputs[0])
        if behind is not None:
            reader = self.bench.readers[self.outputs[0]][0]
            values = [self.bench.values.get(name) for name in reader.inputs]
            origins += [value.origin for value in values if isinstance(value, Known) and value.origin]
        return self.bench.add(
            module,
            tuple(Made(argument.name) if isinstance(argument, Ref) else argument for argument in arguments),
            f"{self.name}_{part}" if part else self.name,
            f"{self.kind} {self.name}",
            weights=origins if has_weights else (),
            sources=[value for value in (*self.inputs, *arguments) if isinstance(value, Ref)],
            outputs=outputs,
        )

    def apply(self, function: Callable[..., Any], *arguments: Argument | Ref, **options: Any) -> Any:
        """Call a function without weights as a layer of its own."""
        return self.layer(Apply(function, **options), *arguments)

    def apply_part(self, function: Callable[..., Any], part: str, *arguments: Argument | Ref, **options: Any) -> Any:
        """The same for a part of the operator."""
        return self.layer(Apply(function, **options), *arguments, part=part)


def _integers(sizes: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    return torch.tensor(sizes).reshape(shape)


@contextlib.contextmanager
def _no_log() -> Iterator[None]:
    """Torch writes a whole stack to its log before it raises that shapes do not fit; the error says it once."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
