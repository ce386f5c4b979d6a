"""How channels run through a traced network: the rules of the operators that compute. Movement is in `flow_moves.py`.

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
            flow.values[node] = Labels(_shape(node))
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
            flow.freeze(labels, f"operator {_name(node)} is not one that channels are followed through")
    return blank(node)


def blank(node: fx.Node) -> Value:
    """No channels, in the shapes of what a node makes."""
    value = node.meta["val"]
    if isinstance(value, Tensor):
        return Labels(tuple(value.shape))
    return [Labels(tuple(one.shape) if isinstance(one, Tensor) else ()) for one in value]


def pointwise(flow: Flow, node: fx.Node) -> Value:
    """Number by number, its inputs broadcast to the shape of its result."""
    given = [flow.of(one) for one in node.all_input_nodes if isinstance(flow.values.get(one), Labels)]
    return flow.join_broadcast(given, _shape(node), f"{_name(node)} joins them with numbers that stay")


def _shape(node: fx.Node) -> tuple[int, ...]:
    value = node.meta["val"]
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _name(node: fx.Node) -> str:
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


def linear(flow: Flow, node: fx.Node) -> Value:
    """aten.linear(x, weight, bias)."""
    x, weight, *rest = node.args
    given, matrix = flow.of(x), flow.of(weight)
    flow.contract((given, len(given.shape) - 1), (matrix, 1), flow.sources(weight))
    out = flow.along(flow.of(weight), 0)
    parts = simplified(given, flow.channels).without([len(given.shape) - 1])
    made = Labels(_shape(node), (*parts, *([Part((len(given.shape) - 1,), out)] if out is not None else [])))
    bias = [flow.of(one) for one in rest if isinstance(one, fx.Node)]
    return flow.join_broadcast([made, *bias], made.shape, "a sum joins them with numbers that stay")


def matmul(flow: Flow, node: fx.Node) -> Value:
    """aten.matmul and bmm; a vector on either side is a matrix with one row or column."""
    left, right = (flow.of(one) for one in node.args[:2])
    if len(left.shape) < 2 or len(right.shape) < 2:
        return unknown(flow, node)
    first, second = node.args[:2]
    flow.contract(
        (left, len(left.shape) - 1), (right, len(right.shape) - 2), flow.sources(first) or flow.sources(second)
    )
    return _product(flow, node, flow.of(first), flow.of(second))


def _product(flow: Flow, node: fx.Node, left: Labels, right: Labels) -> Labels:
    """Of two stacks of matrices: rows of the left, columns of the right, batches joined."""
    rows = Labels((*left.shape[:-1], 1), left.without([len(left.shape) - 1]))
    columns = Labels((*right.shape[:-2], 1, right.shape[-1]), right.without([len(right.shape) - 2]))
    return flow.join_broadcast([rows, columns], _shape(node), "a product joins them with numbers that stay")


def addmm(flow: Flow, node: fx.Node) -> Value:
    """bias + left @ right; baddbmm too."""
    bias, first, second = node.args[:3]
    left, right = flow.of(first), flow.of(second)
    flow.contract(
        (left, len(left.shape) - 1), (right, len(right.shape) - 2), flow.sources(first) or flow.sources(second)
    )
    made = _product(flow, node, flow.of(first), flow.of(second))
    return flow.join_broadcast([made, flow.of(bias)], made.shape, "a sum joins them with numbers that stay")


def attention(flow: Flow, node: fx.Node) -> Value:
    """aten.scaled_dot_product_attention: channels are followed through heads, and through those of the values."""
    query, key, value, *rest = node.args
    mask = rest[0] if rest else node.kwargs.get("attn_mask")
    for one in (query, key):
        labels = flow.of(one)
        flow.freeze_axes(labels, [len(labels.shape) - 1], "attention sums over them, and is scaled by their number")
    q, k, v = flow.of(query), flow.of(key), flow.of(value)
    if q.shape[:-2] != k.shape[:-2] or q.shape[:-2] != v.shape[:-2]:
        return unknown(flow, node)
    rows = (*q.shape[:-1], 1)
    batch = flow.join_broadcast(
        [Labels(rows, q.without([len(q.shape) - 1])), Labels((*k.shape[:-2], 1, 1), k.without([-1 + len(k.shape)]))],
        rows,
        "attention joins them with numbers that stay",
    )
    if isinstance(mask, fx.Node):
        scores = (*q.shape[:-1], k.shape[-2])
        given = flow.of(mask)
        flow.join_broadcast([Labels(rows, batch.parts), given], scores, "they meet a mask that stays")
    values = flow.of(value)
    columns = Labels((*values.shape[:-2], 1, values.shape[-1]), values.without([len(values.shape) - 2]))
    return flow.join_broadcast(
        [Labels(rows, simplified(batch, flow.channels).parts), columns],
        _shape(node),
        "attention joins them with numbers that stay",
    )


def convolution(flow: Flow, node: fx.Node) -> Value:
    """aten.conv1d, conv2d, conv3d: x (N, C, ...), weight (out, C / groups, ...)."""
    x, weight, *rest = node.args
    given, kernel = flow.of(x), flow.of(weight)
    groups = node.args[6] if len(node.args) > 6 else node.kwargs.get("groups", 1)
    assert isinstance(groups, int)
    if len(given.shape) != len(kernel.shape):
        return unknown(flow, node)
    flow.freeze_axes(given, range(2, len(given.shape)), "a convolution runs along them")
    flow.freeze_axes(kernel, range(2, len(kernel.shape)), "they are places of a kernel")
    channels, inside, out = flow.along(flow.of(x), 1), flow.along(kernel, 1), flow.along(kernel, 0)
    if groups == 1:
        flow.contract((flow.of(x), 1), (flow.of(weight), 1), flow.sources(weight))
    elif channels is not None and out is not None and groups == given.shape[1]:
        flow.channels.join(channels[:, None], out.reshape(groups, -1))
    else:
        # each group keeps as many as the others: the channels at one place of every group are one
        for ids in (channels, out):
            if ids is not None:
                flow.channels.join_along(ids.reshape(groups, -1), 0)
        if channels is None or inside is None:
            for ids in (channels, inside):
                if ids is not None:
                    flow.channels.freeze(ids, "they meet numbers that stay")
        else:
            flow.channels.join(channels.reshape(groups, -1), inside[None])
            for name in flow.sources(weight):
                flow.readers.setdefault(name, []).append(inside)
    return _with_bias(flow, node, out, rest)


def _with_bias(flow: Flow, node: fx.Node, out: Ids | None, rest: Sequence[object]) -> Labels:
    made = Labels(_shape(node), () if out is None else (Part((1,), out),))
    if rest and isinstance(rest[0], fx.Node):
        return _per_channel(flow, made, [flow.of(rest[0])])
    return made


def _per_channel(flow: Flow, x: Labels, tensors: Sequence[Labels]) -> Labels:
    """x (N, C, ...) with tensors (C,)."""
    tail = (1,) * (len(x.shape) - 2)
    return flow.join_broadcast(
        [x, *(Labels((*one.shape, *tail), one.parts) for one in tensors)], x.shape, "they meet numbers that stay"
    )


def transposed_convolution(flow: Flow, node: fx.Node) -> Value:
    """aten.conv_transpose*: weight (in, out / groups, ...)."""
    x, weight, *rest = node.args
    groups = node.args[6] if len(node.args) > 6 else node.kwargs.get("groups", 1)
    given, kernel = flow.of(x), flow.of(weight)
    if groups != 1 or len(given.shape) != len(kernel.shape):
        return unknown(flow, node)
    flow.freeze_axes(given, range(2, len(given.shape)), "a convolution runs along them")
    flow.freeze_axes(kernel, range(2, len(kernel.shape)), "they are places of a kernel")
    flow.contract((flow.of(x), 1), (flow.of(weight), 0), flow.sources(weight))
    return _with_bias(flow, node, flow.along(flow.of(weight), 1), rest)


def channel_norm(flow: Flow, node: fx.Node) -> Value:
    """aten.batch_norm, instance_norm, prelu: stored tensors (C,) for x (N, C, ...)."""
    x, *tensors = (flow.of(one) for one in node.all_input_nodes)
    ids = flow.along(x, 1)
    if ids is not None:
        flow.normed.append((node, ids))
    return _per_channel(flow, simplified(x, flow.channels), [one for one in tensors if one.shape != (1,)])


def group_norm(flow: Flow, node: fx.Node) -> Value:
    """aten.group_norm(x, groups, weight, bias): whole groups, or any channel of a single one."""
    x, *tensors = (flow.of(one) for one in node.all_input_nodes)
    groups = node.args[1]
    assert isinstance(groups, int)
    ids = flow.along(x, 1)
    if ids is not None and groups > 1:
        flow.channels.join_along(ids.reshape(groups, -1), 1)
    elif ids is not None:
        flow.inexact.append(ids)
    if ids is not None:
        flow.normed.append((node, ids))
    return _per_channel(flow, simplified(x, flow.channels), tensors)


def last_norm(flow: Flow, node: fx.Node) -> Value:
    """aten.layer_norm and rms_norm over the last axis."""
    x, *tensors = (flow.of(one) for one in node.all_input_nodes)
    sizes = node.args[1]
    assert isinstance(sizes, list | tuple)
    if len(sizes) != 1:
        return unknown(flow, node)
    ids = flow.along(x, len(x.shape) - 1)
    if ids is not None:
        flow.inexact.append(ids)
        flow.normed.append((node, ids))
    return flow.join_broadcast([simplified(x, flow.channels), *tensors], x.shape, "they meet numbers that stay")


def embedding(flow: Flow, node: fx.Node) -> Value:
    """aten.embedding(table, words)."""
    table = flow.of(node.args[0])
    flow.freeze_axes(table, [0], "they are words")
    ids, shape = flow.along(flow.of(node.args[0]), 1), _shape(node)
    return Labels(shape, () if ids is None else (Part((len(shape) - 1,), ids),))


def recurrent(flow: Flow, node: fx.Node) -> Value:
    """aten.lstm.input and gru.input, one direction: a unit is a row of every gate of every layer, and a column."""
    x, states, stored, has_biases, layers, _, _, both_ways, _ = node.args
    states = [states] if isinstance(states, fx.Node) else states
    assert isinstance(stored, list | tuple)
    assert isinstance(states, list | tuple)
    assert isinstance(layers, int)
    size = 4 if has_biases else 2
    units = flow.of(stored[1]).shape[1]
    if both_ways or len(stored) != size * layers or flow.of(states[0]).shape[-1] != units:
        return unknown(flow, node)
    ids = flow.channels.new(units)
    given = flow.of(x)
    for layer in range(layers):
        own = [flow.of(one) for one in stored[layer * size : (layer + 1) * size]]
        for tensor in own:
            rows = flow.along(tensor, 0)
            if rows is not None:
                flow.channels.join(rows.reshape(-1, units), ids[None])
        hidden = Labels((units,), (Part((0,), ids),))
        inputs = (given, len(given.shape) - 1) if layer == 0 else (hidden, 0)
        flow.contract(inputs, (own[0], 1), flow.sources(stored[layer * size]))
        flow.contract((hidden, 0), (own[1], 1), flow.sources(stored[layer * size + 1]))
    for one in states:
        labels = flow.of(one)
        flow.join_broadcast(
            [labels, Labels((units,), (Part((0,), ids),))], labels.shape, "they meet a state that stays"
        )
    made = blank(node)
    assert isinstance(made, list)
    return [Labels(one.shape, (Part((len(one.shape) - 1,), ids),)) for one in made]


COMPUTING: dict[Any, Rule] = {
    aten.linear.default: linear,
    aten.matmul.default: matmul,
    aten.mm.default: matmul,
    aten.bmm.default: matmul,
    aten.addmm.default: addmm,
    aten.baddbmm.default: addmm,
    aten.scaled_dot_product_attention.default: attention,
    **dict.fromkeys((aten.conv1d.default, aten.conv2d.default, aten.conv3d.default), convolution),
    **dict.fromkeys((aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding), convolution),
    aten.conv_transpose1d.default: transposed_convolution,
    aten.conv_transpose2d.input: transposed_convolution,
    aten.conv_transpose3d.input: transposed_convolution,
    aten.batch_norm.default: channel_norm,
    aten.instance_norm.default: channel_norm,
    aten.prelu.default: channel_norm,
    aten.group_norm.default: group_norm,
    aten.layer_norm.default: last_norm,
    aten.rms_norm.default: last_norm,
    aten.embedding.default: embedding,
    aten.lstm.input: recurrent,
    aten.gru.input: recurrent,
}
