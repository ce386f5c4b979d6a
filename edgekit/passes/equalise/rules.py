"""What each operator does to a factor on a channel, and to a mix of channels. The table at the end names them all."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from edgekit.nets.graph import CONVOLUTIONS, LINEAR, aten, conv2d_defaults, is_weight
from edgekit.nets.operators import activations
from edgekit.passes.equalise.channels import ZERO
from edgekit.passes.equalise.flow import Classes, Norm, Rule, Tracer

LAYERS = CONVOLUTIONS | LINEAR | {aten.conv1d.padding, aten.conv2d.padding}


def selected_inputs(weight: Tensor) -> Tensor | None:
    """(C_out,) the input channel that each filter of a convolution picks, or ZERO; None where it does more than pick.

    The shortcut of a CIFAR ResNet is such a convolution: what it picks keeps its scale, and its zeros and ones stay.
    """
    filters = weight.flatten(1)
    one_tap = weight[0, 0].numel() == 1
    if not one_tap or not bool(((filters == 0) | (filters == 1)).all()) or not bool((filters.sum(1) <= 1).all()):
        return None
    return torch.where(filters.sum(1) > 0, filters.argmax(1), ZERO)


def _layer(tracer: Tracer, node: fx.Node, axis: int, groups: int) -> Classes:
    """A convolution or linear layer: sink of what it reads, source of what it makes."""
    source, weight, bias = node.args[0], node.args[1], node.args[2] if len(node.args) > 2 else None
    shape = node.meta["val"].shape
    if not isinstance(source, fx.Node) or not isinstance(weight, fx.Node) or not is_weight(weight):
        return tracer.stop(node, f"the weight of {tracer.name(node)} is computed")
    inputs = tracer.channels.along(tracer.of(source), [axis])
    value = tracer.value(weight)
    if bias is None and groups == 1 and axis == 1 and (picked := selected_inputs(value)) is not None:
        if tracer.rotates:
            return tracer.stop(node)
        return _spread(torch.where(picked == ZERO, ZERO, inputs[picked]), axis, shape)
    if tracer.own(weight) is None or (bias is not None and tracer.own(bias) is None):
        return tracer.stop(node, f"the weight of {tracer.name(node)} is shared, or not saved")
    if tracer.rotates and groups != 1:
        return tracer.stop(node)
    outputs = tracer.channels.new(value.shape[0])
    read = tracer.filled(inputs).reshape(groups, -1).repeat_interleave(value.shape[0] // groups, 0)
    ones = [1] * (value.dim() - 2)
    tracer.site(weight, read.reshape(*read.shape, *ones), "sink", node)
    tracer.site(weight, outputs.reshape(-1, 1, *ones), "source", node)
    if isinstance(bias, fx.Node):
        tracer.site(bias, outputs, "offset", node)
    return _spread(outputs, axis, shape)


def _convolution(tracer: Tracer, node: fx.Node) -> Classes:
    groups = conv2d_defaults(node)[6]
    assert isinstance(groups, int)
    return _layer(tracer, node, 1, groups)


def _linear(tracer: Tracer, node: fx.Node) -> Classes:
    return _layer(tracer, node, -1, 1)


def _spread(channels: Tensor, axis: int, shape: torch.Size) -> Tensor:
    """(C,) along an axis of `shape`, with one class along all others."""
    view = [1] * len(shape)
    view[axis] = -1
    return channels.reshape(view).expand(shape)


def _passes(tracer: Tracer, node: fx.Node) -> Classes:
    return tracer.of(activations(node)[0])


def _homogeneous(tracer: Tracer, node: fx.Node) -> Classes:
    return tracer.stop(node) if tracer.rotates else _passes(tracer, node)


def _pool(tracer: Tracer, node: fx.Node) -> Classes:
    shape = node.meta["val"].shape
    channels = tracer.channels.along(tracer.of(activations(node)[0]), [0, 1])
    return channels.reshape(*channels.shape, *[1] * (len(shape) - 2)).expand(shape)


def _max_pool(tracer: Tracer, node: fx.Node) -> Classes:
    return tracer.stop(node) if tracer.rotates else _pool(tracer, node)


def _mean(tracer: Tracer, node: fx.Node) -> Classes:
    classes = tracer.of(activations(node)[0])
    if len(node.args) < 2 or node.kwargs:
        return tracer.stop(node)
    gone = {int(axis) % classes.dim() for axis in node.args[1]}  # type: ignore[union-attr, arg-type]
    kept = [axis for axis in range(classes.dim()) if axis not in gone]
    return tracer.channels.along(classes, kept).reshape(node.meta["val"].shape)


def _add(tracer: Tracer, node: fx.Node) -> Classes:
    shape = node.meta["val"].shape
    first, second = node.args[0], node.args[1]
    if node.kwargs or not isinstance(first, fx.Node):
        return tracer.stop(node)
    if not isinstance(second, fx.Node):
        return _passes(tracer, node) if second == 0 else tracer.stop(node)
    if is_weight(first):
        first, second = second, first
    classes = tracer.of(first).expand(shape)
    if not is_weight(second):
        return tracer.channels.join(classes, tracer.of(second).expand(shape))
    if tracer.own(second) is None:
        return tracer.stop(node, f"{second.target} is added to it, which is shared, or not saved")
    tracer.site(second, _as_stored(tracer, classes, second), "offset", node)
    return classes


def _as_stored(tracer: Tracer, classes: Tensor, stored: fx.Node) -> Tensor:
    """`classes` of an activation as a stored tensor that is broadcast over it sees them, one class an element."""
    shape = tracer.value(stored).shape
    lead = classes.dim() - len(shape)
    kept = [lead + axis for axis, size in enumerate(shape) if size > 1]
    return tracer.filled(tracer.channels.along(classes, kept)).reshape(shape)


def _multiply(tracer: Tracer, node: fx.Node) -> Classes:
    """By a number: passes. By a stored tensor: a layer of its own. By another activation: passes if that is fixed."""
    shape = node.meta["val"].shape
    first, second = node.args[0], node.args[1]
    if not isinstance(second, fx.Node):
        return _passes(tracer, node)
    if tracer.rotates or not isinstance(first, fx.Node):
        return tracer.stop(node)
    if is_weight(first):
        first, second = second, first
    classes = tracer.of(first).expand(shape)
    if is_weight(second):
        if tracer.own(second) is None:
            return tracer.stop(node, f"it is multiplied by {second.target}, which is shared, or not saved")
        read = _as_stored(tracer, classes, second)
        made = tracer.channels.new(read.numel()).reshape(read.shape)
        tracer.site(second, read, "sink", node)
        tracer.site(second, made, "source", node)
        return made.expand(shape)
    other = tracer.of(second).expand(shape)
    if tracer.channels.all_blocked(classes):
        return other
    return classes if tracer.channels.all_blocked(other) else tracer.stop(node)


def _divide(tracer: Tracer, node: fx.Node) -> Classes:
    return tracer.stop(node) if isinstance(node.args[1], fx.Node) else _passes(tracer, node)


def _product(tracer: Tracer, node: fx.Node) -> Classes:
    """A matrix product of two activations: the channels of one pass if the other one is fixed."""
    first, second = node.args[0], node.args[1]
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node) or is_weight(first) or is_weight(second):
        return tracer.stop(node)
    shape = node.meta["val"].shape
    if tracer.channels.all_blocked(tracer.of(first)):
        return _through_product(tracer, tracer.of(second), -2, shape)
    if tracer.channels.all_blocked(tracer.of(second)):
        return _through_product(tracer, tracer.of(first), -1, shape)
    return tracer.stop(node)


def _through_product(tracer: Tracer, classes: Tensor, summed: int, shape: torch.Size) -> Tensor:
    """Classes behind a sum over one of the last two axes; each matrix of a batch is a cell of its own."""
    kept = [axis for axis in range(classes.dim()) if axis != classes.dim() + summed]
    channels = tracer.channels.along(classes, kept)
    for one in channels.reshape(-1, channels.shape[-1]):
        tracer.cell(one)
    return channels.unsqueeze(summed).expand(shape)


def _attention(tracer: Tracer, node: fx.Node) -> Classes:
    query, key, value = activations(node)[:3]
    for one in (query, key):
        tracer.block(one, f"{tracer.name(node)} compares queries with keys")
    shape, classes = node.meta["val"].shape, tracer.of(value)
    if classes.shape[:-2] != shape[:-2]:
        return tracer.stop(node)
    return _through_product(tracer, classes, -2, shape)


def _layer_norm(tracer: Tracer, node: fx.Node) -> Classes:
    return _norm(tracer, node, node.args[2:4], centred=True)


def _rms_norm(tracer: Tracer, node: fx.Node) -> Classes:
    return _norm(tracer, node, node.args[2:3], centred=False)


def _norm(tracer: Tracer, node: fx.Node, stored: Any, *, centred: bool) -> Classes:
    """A norm of the last axis takes every factor away, and makes new channels by its gain."""
    parameters = [one if isinstance(one, fx.Node) else None for one in stored]
    gain, shift = [*parameters, None, None][:2]
    source = activations(node)[0]
    if any(tracer.own(one) is None for one in parameters if one is not None) or len(node.args[1]) != 1:  # type: ignore[arg-type]
        return tracer.stop(node)
    if tracer.rotates:
        classes = tracer.channels.along(tracer.of(source), [-1])
        tracer.norm(Norm(tracer.name(node), classes, centred, tracer.own(gain), tracer.own(shift)))
        return classes.expand(node.meta["val"].shape)
    tracer.block(source, f"{tracer.name(node)} takes factors away")
    if gain is None:
        return tracer.fixed(node, f"{tracer.name(node)} has no gain")
    made = tracer.channels.new(tracer.value(gain).numel())
    tracer.site(gain, made, "source", node)
    if shift is not None:
        tracer.site(shift, made, "offset", node)
    return made.expand(node.meta["val"].shape)


def _embedding(tracer: Tracer, node: fx.Node) -> Classes:
    weight = node.args[0]
    if not isinstance(weight, fx.Node) or tracer.own(weight) is None:
        return tracer.stop(node)
    made = tracer.channels.new(node.meta["val"].shape[-1])
    tracer.site(weight, made, "source", node)
    return made.expand(node.meta["val"].shape)


def _move(tracer: Tracer, node: fx.Node) -> Classes:
    """Carried out on the classes themselves."""
    args = fx.map_arg(node.args, tracer.raw)
    kwargs = fx.map_arg(node.kwargs, tracer.raw)
    assert callable(node.target)
    moved = node.target(*args, **kwargs)
    return moved if isinstance(moved, Tensor) else tuple(moved)


def _pad(tracer: Tracer, node: fx.Node) -> Classes:
    args = [*node.args, *["constant", None][len(node.args) - 2 :]] if node.target is aten.pad.default else [*node.args]
    mode, value = (args[2], args[3]) if node.target is aten.pad.default else ("constant", [*args, 0][2])
    if mode != "constant" or value not in (None, 0, 0.0) or node.kwargs:
        return tracer.stop(node)
    return torch.nn.functional.pad(tracer.of(activations(node)[0]), list(args[1]), value=ZERO)  # type: ignore[arg-type]


MOVES = frozenset(
    {
        aten.cat.default,
        aten.chunk.default,
        aten.clone.default,
        aten.contiguous.default,
        aten.expand.default,
        aten.flatten.using_ints,
        aten.permute.default,
        aten.reshape.default,
        aten.select.int,
        aten.slice.Tensor,
        aten.split.Tensor,
        aten.split_with_sizes.default,
        aten.squeeze.default,
        aten.squeeze.dim,
        aten.squeeze.dims,
        aten.stack.default,
        aten.t.default,
        aten.transpose.int,
        aten.unbind.int,
        aten.unflatten.int,
        aten.unsqueeze.default,
        aten.view.default,
        operator.getitem,
    }
)

RULES: Mapping[Any, Rule] = {
    aten.conv1d.default: _convolution,
    aten.conv1d.padding: _convolution,
    aten.conv2d.default: _convolution,
    aten.conv2d.padding: _convolution,
    aten.linear.default: _linear,
    aten.add.Tensor: _add,
    aten.add_.Tensor: _add,
    aten.mul.Tensor: _multiply,
    aten.div.Tensor: _divide,
    aten.neg.default: _passes,
    aten.dropout.default: _passes,
    aten.dropout_.default: _passes,
    aten.relu.default: _homogeneous,
    aten.relu_.default: _homogeneous,
    aten.leaky_relu.default: _homogeneous,
    aten.max_pool2d.default: _max_pool,
    aten.avg_pool2d.default: _pool,
    aten.adaptive_avg_pool2d.default: _pool,
    aten.mean.dim: _mean,
    aten.matmul.default: _product,
    aten.bmm.default: _product,
    aten.scaled_dot_product_attention.default: _attention,
    aten.layer_norm.default: _layer_norm,
    aten.rms_norm.default: _rms_norm,
    aten.embedding.default: _embedding,
    aten.pad.default: _pad,
    aten.constant_pad_nd.default: _pad,
    **dict.fromkeys(MOVES, _move),
}
