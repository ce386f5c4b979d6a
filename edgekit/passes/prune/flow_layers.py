"""How channels run through operators with weights: products, convolutions, attention, norms, recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from edgekit.nets.graph import aten
from edgekit.passes.prune.flow import Flow, Rule, Value, blank, shape_of, unknown
from edgekit.passes.prune.labels import Ids, Labels, Part, simplified


def linear(flow: Flow, node: fx.Node) -> Value:
    """aten.linear(x, weight, bias)."""
    x, weight, *rest = node.args
    given, matrix = flow.of(x), flow.of(weight)
    flow.contract((given, len(given.shape) - 1), (matrix, 1), flow.sources(weight))
    out = flow.along(flow.of(weight), 0)
    parts = simplified(given, flow.channels).without([len(given.shape) - 1])
    made = Labels(shape_of(node), (*parts, *([Part((len(given.shape) - 1,), out)] if out is not None else [])))
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
    return flow.join_broadcast([rows, columns], shape_of(node), "a product joins them with numbers that stay")


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
        shape_of(node),
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
    made = Labels(shape_of(node), () if out is None else (Part((1,), out),))
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
    ids, shape = flow.along(flow.of(node.args[0]), 1), shape_of(node)
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


LAYER_RULES: dict[Any, Rule] = {
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
