"""A network that carries out a graph, call by call. Layers with weights are PyTorch's own, under the names that the
program knows their tensors by, so that every pass that trains, prunes or merges layers finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from edgekit.errors import ModelError
from edgekit.nets.pt2.archive import Archive
from edgekit.nets.pt2.graph import Call, Graph, Stored, Value, values_of

aten = torch.ops.aten
_CONVOLUTIONS: Mapping[Any, Callable[..., nn.Module]] = {
    aten.conv1d.default: nn.Conv1d,
    aten.conv1d.padding: nn.Conv1d,
    aten.conv2d.default: nn.Conv2d,
    aten.conv2d.padding: nn.Conv2d,
}
_NORMS: Mapping[int, Callable[..., nn.Module]] = {  # by dimensions of the input
    2: nn.BatchNorm1d,
    3: nn.BatchNorm1d,
    4: nn.BatchNorm2d,
    5: nn.BatchNorm3d,
}


@dataclass(frozen=True)
class OfBatch:
    """A size that grows with the batch, in the place of a number that a program has for one batch."""

    times: int


class ExportedNetwork(nn.Module):
    """A graph as a network: takes and returns what the exported one did; a dict with names where that had names.

    Attributes:
        graph: what it carries out.
    """

    def __init__(self, graph: Graph, archive: Archive, where: str) -> None:
        super().__init__()
        self.graph = graph
        self._layers: dict[int, str] = {}  # position of a call -> path of its layer
        self._read: dict[str, str] = {}  # value -> path of the tensor that calls read themselves
        self._released = _last_uses(graph)
        stored = {**archive.weights, **archive.constants}
        absent = sorted({given.path for given in graph.stored.values()} - set(stored))
        if absent:
            raise ModelError(f"the tensor {absent[0]} is absent", where, "get the file again")
        tensors = _Tensors(self, stored, where)
        for position, call in enumerate(graph.calls):
            made = _layer(call, graph, stored)
            if made is not None and tensors.place(*made):
                self._layers[position] = made[0]
        used = {name for i, call in enumerate(graph.calls) if i not in self._layers for name in values_of(call)}
        for value, given in graph.stored.items():
            if value in used | set(graph.outputs):
                self._read[value] = given.path
                tensors.put(given)
        self.eval()

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...] | dict[str, Tensor]:
        """What the program computes; the batch is the first dimension of everything."""
        values = self.given(inputs)
        for position in range(len(self.graph.calls)):
            self.carry_out(position, values, inputs[0].shape[0])
            for name in self._released[position]:
                values.pop(name, None)  # weights of layers are not among them
        made = tuple(values[name] for name in self.graph.outputs)
        if self.graph.output_names:
            return dict(zip(self.graph.output_names, made, strict=True))
        return made[0] if len(made) == 1 else made

    def given(self, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
        """Values by name before the first call."""
        names = [name for name in self.graph.inputs if name is not None]
        values: dict[str, Any] = dict(zip(names, inputs, strict=True))
        for value, path in self._read.items():
            owner, _, leaf = path.rpartition(".")
            values[value] = getattr(self.get_submodule(owner), leaf)
        return values

    def carry_out(self, position: int, values: dict[str, Any], batch: int) -> None:
        """One call; what it gives is added to `values`."""
        call = self.graph.calls[position]
        if position in self._layers:
            made = self.get_submodule(self._layers[position])(values[_bound(call)["input"].name])
        else:
            kwargs = _resolved(dict(call.kwargs), values, batch)
            made = call.function(*_resolved(call.args, values, batch), **kwargs)
        if call.listed or len(call.outputs) > 1:
            values.update(zip(call.outputs, made, strict=True))
        else:
            values[call.outputs[0]] = made

    def replace_call(self, position: int, call: Call) -> None:
        """Put another call in the place of one; it has the same outputs."""
        calls = list(self.graph.calls)
        calls[position] = call
        self.graph = replace(self.graph, calls=tuple(calls))


class _Tensors:
    """Puts layers and tensors where their names say. Tied weights are one parameter."""

    def __init__(self, network: nn.Module, stored: Mapping[str, Tensor], where: str) -> None:
        self._network, self._stored, self._where = network, stored, where
        self._parameters: dict[int, nn.Parameter] = {}

    def place(self, path: str, layer: nn.Module) -> bool:
        """Whether `layer` lies at `path` now: it is put there unless another one is."""
        owner, leaf = self._owner(path), path.rpartition(".")[2]
        there = owner._modules.get(leaf)
        if there is not None or hasattr(owner, leaf):
            return there is not None and repr(there) == repr(layer)
        for name, _ in list(layer.named_parameters()):
            setattr(layer, name, self._parameter(f"{path}.{name}"))
        for name, _ in list(layer.named_buffers()):
            tensor = self._stored.get(f"{path}.{name}")
            setattr(layer, name, torch.tensor(0) if tensor is None else tensor.clone())
        owner.add_module(leaf, layer)
        return True

    def put(self, given: Stored) -> None:
        """A tensor that calls read themselves, unless a layer brought it."""
        owner, leaf = self._owner(given.path), given.path.rpartition(".")[2]
        if leaf in owner._parameters or leaf in owner._buffers:
            return
        try:
            if given.kind == "parameter":
                owner.register_parameter(leaf, self._parameter(given.path))
            else:
                owner.register_buffer(leaf, self._stored[given.path].clone(), persistent=given.persistent)
        except KeyError as err:
            raise self._misnamed(given.path) from err

    def _parameter(self, path: str) -> nn.Parameter:
        tensor = self._stored[path]
        if id(tensor) not in self._parameters:
            self._parameters[id(tensor)] = nn.Parameter(tensor.clone(), requires_grad=tensor.is_floating_point())
        return self._parameters[id(tensor)]

    def _owner(self, path: str) -> nn.Module:
        """The module that holds what lies at `path`; made, with those above it, where it is absent."""
        owner = self._network
        for part in path.split(".")[:-1]:
            if part not in owner._modules:
                if hasattr(owner, part):
                    raise self._misnamed(path)
                owner.add_module(part, nn.Module())
            owner = cast(nn.Module, owner._modules[part])
        return owner

    def _misnamed(self, path: str) -> ModelError:
        return ModelError(f"a tensor is called {path!r}, where something else lies", self._where, "name it otherwise")


def _layer(call: Call, graph: Graph, stored: Mapping[str, Tensor]) -> tuple[str, nn.Module] | None:
    """Path and layer of a call with stored weights that are called as those of PyTorch's layer; the tensors are not
    in it yet.
    """
    if call.function not in (*_CONVOLUTIONS, aten.linear.default, aten.batch_norm.default):
        return None
    given = _bound(call)
    own = {
        name: graph.stored[given[name].name].path
        for name in ("weight", "bias", "running_mean", "running_var")
        if isinstance(given.get(name), Value) and given[name].name in graph.stored
    }
    used = {name for name in ("weight", "bias", "running_mean", "running_var") if given.get(name) is not None}
    path = _path(own, stored)
    if path is None or set(own) != used:
        return None
    weight, bias = stored[own["weight"]], "bias" in own
    with torch.device("meta"):  # its tensors are put in afterwards
        if call.function is aten.linear.default:
            return path, nn.Linear(weight.shape[1], weight.shape[0], bias)
        if call.function in _CONVOLUTIONS:
            layer = _CONVOLUTIONS[call.function](
                weight.shape[1] * given["groups"],
                weight.shape[0],
                tuple(weight.shape[2:]),
                _numbers(given["stride"], weight.dim() - 2),
                given["padding"] if isinstance(given["padding"], str) else _numbers(given["padding"], weight.dim() - 2),
                _numbers(given["dilation"], weight.dim() - 2),
                given["groups"],
                bias,
            )
            return path, layer
        norm = _NORMS.get(len(graph.sizes.get(given["input"].name, ())))
        if given["training"] or norm is None or set(own) != {"weight", "bias", "running_mean", "running_var"}:
            return None
        return path, norm(weight.shape[0], eps=given["eps"], momentum=given["momentum"])


def _path(own: Mapping[str, str], stored: Mapping[str, Tensor]) -> str | None:
    """The path under which all of a layer's tensors lie by their names there: the program calls a tied one as it is
    called elsewhere.
    """
    for tensor in (own.get("bias", ""), own.get("weight", "")):
        path = tensor.rpartition(".")[0]
        if path and all(stored.get(f"{path}.{name}") is stored[other] for name, other in own.items()):
            return path
    return None


def _bound(call: Call) -> dict[str, Any]:
    """Arguments of a call by their names, defaults among them."""
    arguments = cast(torch._ops.OpOverload, call.function)._schema.arguments
    given = {argument.name: argument.default_value for argument in arguments}
    given |= {argument.name: value for argument, value in zip(arguments, call.args, strict=False)}
    return {**given, **call.kwargs}


def _numbers(value: Any, count: int) -> tuple[int, ...]:
    numbers = tuple(value) if isinstance(value, list | tuple) else (value,)
    return numbers * count if len(numbers) == 1 else numbers


def _resolved(value: Any, values: Mapping[str, Any], batch: int) -> Any:
    if isinstance(value, Value):
        return values[value.name]
    if isinstance(value, OfBatch):
        return value.times * batch
    if isinstance(value, tuple):
        return [_resolved(part, values, batch) for part in value]
    if isinstance(value, dict):
        return {name: _resolved(part, values, batch) for name, part in value.items()}
    return value


def _last_uses(graph: Graph) -> tuple[tuple[str, ...], ...]:
    """For every call, the values that nobody reads after it: memory of one layer, not of all."""
    last = {name: i for i, call in enumerate(graph.calls) for name in (*values_of(call), *call.outputs)}
    released: list[list[str]] = [[] for _ in graph.calls]
    for name, position in last.items():
        if name not in graph.outputs:
            released[position].append(name)
    return tuple(map(tuple, released))
