"""How channels run through a traced network. Rules of operators are in `flow_layers.py` and `flow_moves.py`.

Every axis of every stored tensor begins with labels of its own; each operator joins labels that only make sense
together. What no rule knows freezes what it is given, so that nothing is cut that is not understood.
Source of the idea of dependency: Fang et al., DepGraph, arXiv:2301.12900; labels of single indices, in place of layers
in pairs, are ours: they follow channels through heads, gates and halves that code makes by reshapes and slices.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, fx

from edgekit.nets.graph import aten, tensor_of
from edgekit.passes.prune.labels import Channels, Ids, Labels, Part, simplified

Value: TypeAlias = Labels | list[Labels]
Rule: TypeAlias = Callable[["Flow", fx.Node], Value]


@dataclass
class Flow:
    """Labels of every tensor of a program.

    Attributes:
        tensors: of stored tensors, by name.
        values: of what nodes make.
        readers: by stored tensor, labels of the indices over which it is summed with an activation: zeros there are as
            good as a cut.
        inexact: labels that a norm averages over: what is left is normed differently once they are gone.
        normed: every norm with the labels of its channels: one without weights has no other trace of them.
    """

    module: fx.GraphModule
    channels: Channels = field(default_factory=Channels)
    tensors: dict[str, Labels] = field(default_factory=dict)
    values: dict[fx.Node, Value] = field(default_factory=dict)
    readers: dict[str, list[Ids]] = field(default_factory=dict)
    inexact: list[Ids] = field(default_factory=list)
    normed: list[tuple[fx.Node, Ids]] = field(default_factory=list)
    _stored: dict[fx.Node, frozenset[str]] = field(default_factory=dict)

    def of(self, node: object) -> Labels:
        """Labels of what a node makes, as simple as they are by now."""
        assert isinstance(node, fx.Node)
        value = self.values[node]
        assert isinstance(value, Labels)
        return simplified(value, self.channels)

    def sources(self, node: object) -> frozenset[str]:
        """Stored tensors that a node is made of, where it is made of nothing else."""
        return self._stored.get(node, frozenset()) if isinstance(node, fx.Node) else frozenset()

    def along(self, labels: Labels, axis: int) -> Ids | None:
        """Labels of one axis by itself. Channels that run along several axes are made to run along the others."""
        part = labels.part(axis)
        if part is None:
            return None
        if len(part.axes) == 1:
            return part.ids
        self.channels.join_along(part.ids, part.axes.index(axis))
        return None

    def freeze_axes(self, labels: Labels, axes: Sequence[int], reason: str) -> None:
        """Nothing is cut along these axes."""
        for axis in axes:
            ids = self.along(simplified(labels, self.channels), axis)
            if ids is not None:
                self.channels.freeze(ids, reason)

    def freeze(self, labels: Labels, reason: str) -> None:
        """Nothing of a tensor is cut."""
        for part in labels.parts:
            self.channels.freeze(part.ids, reason)

    def join_broadcast(self, given: Sequence[Labels], shape: Sequence[int], reason: str) -> Labels:
        """Labels of what is computed number by number from tensors that are broadcast to `shape`."""
        while True:
            aligned = [_aligned(simplified(labels, self.channels), shape) for labels in given]
            conflict = _conflict(aligned)
            if conflict is None:
                break
            self.channels.join_along(conflict.ids, len(conflict.axes) - 1)
        made: dict[tuple[int, ...], Ids] = {}
        for labels in aligned:
            for part in labels.parts:
                if part.axes in made:
                    self.channels.join(made[part.axes], part.ids)
                else:
                    made[part.axes] = part.ids
        for axes, ids in made.items():
            for labels in aligned:
                if any(labels.shape[axis] > 1 and labels.part(axis) is None for axis in axes):
                    self.channels.freeze(ids, reason)
        return Labels(tuple(shape), tuple(Part(axes, ids) for axes, ids in made.items()))

    def contract(self, left: tuple[Labels, int], right: tuple[Labels, int], sources: frozenset[str]) -> None:
        """A sum over one axis of each, of which one side is made of the stored tensors `sources`, or none is."""
        first, second = self.along(*left), self.along(*right)
        both = [ids for ids in (first, second) if ids is not None]
        if len(both) == 2 and sources:
            self.channels.join(both[0], both[1])
            for name in sources:
                self.readers.setdefault(name, []).append(both[0])
        else:
            reason = "a product of two activations sums over them" if len(both) == 2 else "they meet a fixed number"
            for ids in both:
                self.channels.freeze(ids, reason)


def follow(module: fx.GraphModule, stored: set[str], rules: dict[Any, Rule]) -> Flow:
    """Labels through the whole program.

    Args:
        stored: names of the tensors that can be cut.
        rules: of operators; those that compute number by number need none.
    """
    flow = Flow(module)
    for node in module.graph.nodes:
        if node.op == "placeholder":
            flow.values[node] = Labels(shape_of(node))
        elif node.op == "get_attr":
            _store(flow, node, str(node.target) in stored)
        elif node.op == "output":
            for made in node.all_input_nodes:
                flow.freeze(flow.of(made), "its channels are an output of the network")
        elif node.op == "call_function" and "val" in node.meta:
            _call(flow, node, rules)
    return flow


def _store(flow: Flow, node: fx.Node, can_be_cut: bool) -> None:
    name, tensor = str(node.target), tensor_of(flow.module, node)
    if name not in flow.tensors:
        cut = can_be_cut and tensor.is_floating_point()
        parts = tuple(Part((axis,), flow.channels.new(size)) for axis, size in enumerate(tensor.shape) if cut)
        flow.tensors[name] = Labels(tuple(tensor.shape), parts)
    flow.values[node] = flow.tensors[name]
    flow._stored[node] = frozenset({name})


def _call(flow: Flow, node: fx.Node, rules: dict[Any, Rule]) -> None:
    inputs = node.all_input_nodes
    if inputs and all(flow.sources(one) for one in inputs):
        flow._stored[node] = frozenset[str]().union(*(flow.sources(one) for one in inputs))
    target = node.target
    rule = rules.get(target)
    if rule is not None:
        flow.values[node] = rule(flow, node)
    elif target is operator.getitem:
        made = flow.values[inputs[0]]
        flow.values[node] = made[int(node.args[1])] if isinstance(made, list) else made  # type: ignore[arg-type]
    elif isinstance(target, torch._ops.OpOverload) and torch.Tag.pointwise in target.tags:
        flow.values[node] = pointwise(flow, node)
    else:
        flow.values[node] = unknown(flow, node)


def unknown(flow: Flow, node: fx.Node) -> Value:
    """What no rule knows keeps everything that it is given."""
    for one in node.all_input_nodes:
        value = flow.values.get(one)
        for labels in value if isinstance(value, list) else [value] if value is not None else []:
            flow.freeze(labels, f"operator {operator_name(node)} is not one that channels are followed through")
    return blank(node)


def blank(node: fx.Node) -> Value:
    """No channels, in the shapes of what a node makes."""
    value = node.meta["val"]
    if isinstance(value, Tensor):
        return Labels(tuple(value.shape))
    if not isinstance(value, list | tuple):
        return Labels(())  # a number, or nothing: a check of what it is given
    return [Labels(tuple(one.shape) if isinstance(one, Tensor) else ()) for one in value]


def pointwise(flow: Flow, node: fx.Node) -> Value:
    """Number by number, its inputs broadcast to the shape of its result."""
    given = [flow.of(one) for one in node.all_input_nodes if isinstance(flow.values.get(one), Labels)]
    return flow.join_broadcast(given, shape_of(node), f"{operator_name(node)} joins them with numbers that stay")


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Of the tensor that a node makes; empty where it makes none, or several."""
    value = node.meta["val"]
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def operator_name(node: fx.Node) -> str:
    """As messages have it."""
    return str(node.target).removeprefix("aten.").partition(".")[0]


def _aligned(labels: Labels, shape: Sequence[int]) -> Labels:
    """With the axes of what it is broadcast to; what is repeated along an axis has no channels there."""
    ahead = len(shape) - len(labels.shape)
    sizes = (1,) * ahead + labels.shape
    parts = []
    for part in labels.parts:
        axes, ids = [axis + ahead for axis in part.axes], part.ids
        for position in reversed(range(len(axes))):
            if sizes[axes[position]] != shape[axes[position]] or shape[axes[position]] == 1:
                del axes[position]
                ids = np.take(ids, 0, position)
        if axes:
            parts.append(Part(tuple(axes), ids))
    return Labels(sizes, tuple(parts))


def _conflict(aligned: Sequence[Labels]) -> Part | None:
    """A part over several axes which another tensor has otherwise: it can only stay whole along all but the first."""
    for labels in aligned:
        for part in labels.parts:
            if len(part.axes) == 1:
                continue
            for other in aligned:
                present = any(other.shape[axis] > 1 for axis in part.axes)
                if other is not labels and present and all(own.axes != part.axes for own in other.parts):
                    return part
    return None


def axis_of(node: fx.Node, position: int, name: str, rank: int, default: int = 0) -> int:
    """The axis that an operator is given, from 0 up."""
    given = node.args[position] if len(node.args) > position else node.kwargs.get(name, default)
    assert isinstance(given, int)
    return given % rank


def axes_of(given: object, rank: int) -> list[int]:
    """Axes as an operator has them: a number, a list, or none for all."""
    if given is None or given == []:
        return list(range(rank))
    numbers: Sequence[int] = [given] if isinstance(given, int) else given  # type: ignore[assignment]
    return [number % rank for number in numbers]


def rows_of(rule: Rule, *names: str) -> dict[Any, Rule]:
    """One rule for operators by name; a name that this torch does not have is left out."""
    rows: dict[Any, Rule] = {}
    for name in names:
        packet, _, overload = name.partition(".")
        found = getattr(aten, packet, None)
        if found is not None and (overload or "default") in found.overloads():
            rows[getattr(found, overload or "default")] = rule
    return rows
