"""The float network as a side: the canonical program, run operator by operator in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import fx

from edgekit.debug.kinds import ACTIVATIONS, MOVE, TAKES_ACTIVATION, WEIGHTED, kind_named
from edgekit.debug.layers import INPUT, Array, Layer, Run, Weight
from edgekit.nets.graph import is_weight, tensor_of
from edgekit.nets.model import Model
from edgekit.nets.operators import activations, kind_of
from edgekit.nets.program import Program, trace


class NetworkSide:
    """A float network at a fixed batch."""

    runtimes: tuple[str, ...] = ("PyTorch",)

    def __init__(self, model: Model, title: str, batch: int) -> None:
        self.title = title
        self.batch: int | None = batch
        self._program = trace(model, batch)
        ends = dict(_ends(self._program))
        self._names = {end: self._program.names[anchor] for end, anchor in ends.items()}
        self.layers = tuple(_layer(self._program, anchor, end, self._names) for end, anchor in ends.items())

    @contextmanager
    def session(self, runtime: str, cut: frozenset[str]) -> Iterator[Run]:
        """See `Side.session`."""
        yield _Tapped(self._program.module, self._names, cut)

    def notes(self) -> tuple[str, ...]:
        """See `Side.notes`."""
        return ()


class _Tapped(fx.Interpreter):
    """Keeps the output of every layer, and puts what is given in the place of those that are cut."""

    def __init__(self, module: fx.GraphModule, names: Mapping[fx.Node, str], cut: frozenset[str]) -> None:
        super().__init__(module)
        self._layers, self._cut = names, cut
        self._given: Mapping[str, Array] = {}
        self._found: dict[str, Array] = {}

    def __call__(self, given: Mapping[str, Array]) -> dict[str, Array]:
        self._given, self._found = given, {}
        inputs = [name for node, name in self._layers.items() if node.op == "placeholder"]
        with torch.no_grad():
            self.run(*(torch.from_numpy(np.ascontiguousarray(given[name])) for name in inputs))
        return self._found

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        name = self._layers.get(n)
        if name is None:
            return value
        self._found[name] = value.detach().numpy()
        return torch.from_numpy(np.ascontiguousarray(self._given[name])) if name in self._cut else value


def _ends(program: Program) -> Iterator[tuple[fx.Node, fx.Node]]:
    """(last node, operator) of every layer, in execution order."""
    inside: set[fx.Node] = set()
    for node in program.names:
        if node.op == "placeholder":
            yield node, node
        if node.op != "call_function" or node in inside or _kind(node) == MOVE or not _is_float(node):
            continue
        end = node
        while _kind(node) in TAKES_ACTIVATION and len(end.users) == 1:
            (user,) = end.users
            if _kind(user) not in ACTIVATIONS:
                break
            inside.add(user)
            end = user
        yield end, node


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _kind(node: fx.Node) -> str:
    target: Any = node.target
    name = str(target)
    plain = name.split(".")[1] if name.startswith("aten.") else getattr(target, "__name__", name)
    return kind_named(kind_of(node) or plain, len(activations(node)))


def _layer(program: Program, anchor: fx.Node, end: fx.Node, names: Mapping[fx.Node, str]) -> Layer:
    if anchor.op == "placeholder":
        tensor = names[end].removeprefix("input:")
        return Layer(names[end], tensor, INPUT, (), shape=tuple(anchor.meta["val"].shape))
    kind = _kind(anchor)
    weight = bias = None
    if kind in WEIGHTED and is_weight(anchor.args[1]):
        values = tensor_of(program.module, anchor.args[1]).detach().float().numpy()  # type: ignore[arg-type]
        weight = Weight(values, np.zeros((1,) * values.ndim))
        stored = anchor.args[2] if len(anchor.args) > 2 else None
        if isinstance(stored, fx.Node) and is_weight(stored):
            bias = tensor_of(program.module, stored).detach().float().numpy()
    return Layer(
        name=names[end],
        tensor=end.name,
        kind=kind,
        sources=tuple(dict.fromkeys(source for arg in activations(anchor) for source in _sources(arg, names))),
        weight=weight,
        weight_name=program.weight_name(anchor) if weight is not None else "",
        bias=bias,
        activated=end is not anchor,
    )


def _sources(node: fx.Node, names: Mapping[fx.Node, str]) -> Iterator[str]:
    """The layers that a tensor is made of; data movement is looked through."""
    if node in names:
        yield names[node]
    else:
        for source in activations(node):
            yield from _sources(source, names)
