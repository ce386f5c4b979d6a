"""How channels run through operators that move numbers, or make them from nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from edgekit.nets.graph import aten, value_of
from edgekit.passes.prune.flow import Flow, Rule, Value, axes_of, axis_of, blank, rows_of, unknown
from edgekit.passes.prune.labels import Labels, Part, dropped, inserted, permuted, reshaped, simplified, taken


def _same(flow: Flow, node: fx.Node) -> Value:
    return flow.of(node.args[0])


def _reshape(flow: Flow, node: fx.Node) -> Value:
    return reshaped(flow.of(node.args[0]), tuple(value_of(node).shape), flow.channels)


def _permute(flow: Flow, node: fx.Node) -> Value:
    given = flow.of(node.args[0])
    order: Any = node.args[1]
    return permuted(given, [axis % len(given.shape) for axis in order])


def _transpose(flow: Flow, node: fx.Node) -> Value:
    given = flow.of(node.args[0])
    rank = len(given.shape)
    order = list(range(rank))
    first, second = (0, 1) if len(node.args) == 1 else (int(str(one)) % rank for one in node.args[1:3])
    if node.target in (aten.mT.default, aten.adjoint.default):
        first, second = rank - 2, rank - 1
    if rank > 1:
        order[first], order[second] = second, first
    return permuted(given, order)


def _unsqueeze(flow: Flow, node: fx.Node) -> Value:
    given = flow.of(node.args[0])
    return inserted(given, axis_of(node, 1, "dim", len(given.shape) + 1))


def _squeeze(flow: Flow, node: fx.Node) -> Value:
    given = flow.of(node.args[0])
    axes = axes_of(node.args[1] if len(node.args) > 1 else None, len(given.shape))
    for axis in sorted(axes, reverse=True):
        if given.shape[axis] == 1:
            given = dropped(given, axis)
    return given


def _expand(flow: Flow, node: fx.Node) -> Value:
    given, shape = flow.of(node.args[0]), tuple(value_of(node).shape)
    return flow.join_broadcast([given], shape, "they are repeated")


def _repeat(flow: Flow, node: fx.Node) -> Value:
    given = flow.of(node.args[0])
    times: Any = node.args[1]
    for _ in range(len(times) - len(given.shape)):
        given = inserted(given, 0)
    for axis, count in enumerate(times):
        given = taken(given, axis, np.tile(np.arange(given.shape[axis]), count))
    return given


def _select(flow: Flow, node: fx.Node) -> Value:
    given = flow.of(node.args[0])
    axis, place = axis_of(node, 1, "dim", len(given.shape)), node.args[2]
    assert isinstance(place, int)
    return dropped(taken(given, axis, np.array([place % given.shape[axis]])), axis)


def _slice(flow: Flow, node: fx.Node) -> Value:
    given = flow.of(node.args[0])
    axis = axis_of(node, 1, "dim", len(given.shape))
    bounds: Any = [node.args[i] if len(node.args) > i else None for i in (2, 3, 4)]
    return taken(given, axis, slice(*bounds))


def _narrow(flow: Flow, node: fx.Node) -> Value:
    given = flow.of(node.args[0])
    start: Any = node.args[2]
    size = value_of(node).shape[axis_of(node, 1, "dim", len(given.shape))]
    return taken(given, axis_of(node, 1, "dim", len(given.shape)), slice(start, start + size))


def _pieces(flow: Flow, node: fx.Node) -> Value:
    """chunk and split. Equal pieces stay equal: the channels at one place of every piece are one."""
    given = flow.of(node.args[0])
    axis = axis_of(node, 2, "dim", len(given.shape))
    sizes = [piece.shape[axis] for piece in node.meta["val"]]
    part = given.part(axis)
    if part is not None and len(part.axes) == 1 and len(set(sizes)) == 1:
        flow.channels.join_along(part.ids.reshape(len(sizes), -1), 0)
    ends = np.cumsum([0, *sizes])
    return [taken(given, axis, slice(ends[i], ends[i + 1])) for i in range(len(sizes))]


def _unbind(flow: Flow, node: fx.Node) -> Value:
    given = flow.of(node.args[0])
    axis = axis_of(node, 1, "dim", len(given.shape))
    return [dropped(taken(given, axis, np.array([i])), axis) for i in range(given.shape[axis])]


def _concatenate(flow: Flow, node: fx.Node) -> Value:
    pieces: Any = node.args[0]
    given = [flow.of(piece) for piece in pieces]
    rank = len(value_of(node).shape)
    axis = axis_of(node, 1, "dim", rank)
    given = [one for one in given if len(one.shape) == rank]
    return _joined(flow, given, axis, tuple(value_of(node).shape))


def _joined(flow: Flow, given: list[Labels], axis: int, shape: tuple[int, ...]) -> Labels:
    for one in given:  # channels that run along this axis and others are whole here
        part = one.part(axis)
        if part is not None and len(part.axes) > 1:
            flow.channels.join_along(part.ids, part.axes.index(axis))
    given = [simplified(one, flow.channels) for one in given]
    flat = [Labels((*one.shape[:axis], 1, *one.shape[axis + 1 :]), one.without([axis])) for one in given]
    around = flow.join_broadcast(flat, flat[0].shape, "they are put beside channels that stay")
    own = [one.part(axis) for one in given]
    if all(part is None for part in own):
        return Labels(shape, around.parts)
    ids = []
    for one, part in zip(given, own, strict=True):
        if part is None:
            fresh = flow.channels.new(one.shape[axis])
            flow.channels.freeze(fresh, "they stand in a tensor that stays")
            ids.append(fresh)
        else:
            ids.append(part.ids)
    return Labels(shape, (*around.parts, Part((axis,), np.concatenate(ids))))


def _stack(flow: Flow, node: fx.Node) -> Value:
    pieces: Any = node.args[0]
    shape = tuple(value_of(node).shape)
    axis = axis_of(node, 1, "dim", len(shape))
    given = [inserted(flow.of(piece), axis) for piece in pieces]
    return _joined(flow, given, axis, shape)


def _flip(flow: Flow, node: fx.Node) -> Value:
    given = flow.of(node.args[0])
    for axis in axes_of(node.args[1], len(given.shape)):
        given = taken(given, axis, slice(None, None, -1))
    return given


def _index_select(flow: Flow, node: fx.Node) -> Value:
    given = flow.of(node.args[0])
    axis = axis_of(node, 1, "dim", len(given.shape))
    flow.freeze_axes(given, [axis], "they are looked up by number")
    return Labels(tuple(value_of(node).shape), flow.of(node.args[0]).without([axis]))


def _glu(flow: Flow, node: fx.Node) -> Value:
    given = flow.of(node.args[0])
    axis = axis_of(node, 1, "dim", len(given.shape), -1)
    half = given.shape[axis] // 2
    halves = [taken(given, axis, slice(0, half)), taken(given, axis, slice(half, None))]
    return flow.join_broadcast(halves, halves[0].shape, "they meet numbers that stay")


def _filled(flow: Flow, node: fx.Node) -> Value:
    """A tensor of one number has whatever channels it is put together with."""
    shape = tuple(value_of(node).shape)
    return Labels(shape, tuple(Part((axis,), flow.channels.new(size)) for axis, size in enumerate(shape)))


def _nothing(flow: Flow, node: fx.Node) -> Value:
    return blank(node)


def _by_index(flow: Flow, node: fx.Node) -> Value:
    """aten.index with numbers for one axis, a vector of them: the others keep their channels."""
    given = flow.of(node.args[0])
    indices: Any = node.args[1]
    places = [axis for axis, index in enumerate(indices) if index is not None]
    if len(places) != 1 or value_of(indices[places[0]]).dim() > 1 or not value_of(node).dim():
        return unknown(flow, node)
    flow.freeze_axes(given, places, "they are looked up by number")
    kept = flow.of(node.args[0]).without(places)
    made = Labels((*given.shape[: places[0]], 1, *given.shape[places[0] + 1 :]), kept)
    if value_of(indices[places[0]]).dim() == 0:
        return dropped(made, places[0])
    return Labels(tuple(value_of(node).shape), kept)


_CHANGES_NOTHING = (
    *("contiguous", "clone", "detach", "detach_", "alias", "dropout", "dropout_", "feature_dropout", "alpha_dropout"),
    *("to.dtype", "to.device", "to.dtype_layout", "to.other", "type_as", "_to_copy", "lift_fresh_copy", "lift_fresh"),
    *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "pin_memory"),
)
_MADE_OF_ONE_NUMBER = ("zeros", "ones", "full", "empty.memory_format", "new_zeros", "new_ones", "new_full", "new_empty")
MOVE_RULES: dict[Any, Rule] = {
    **rows_of(_same, *_CHANGES_NOTHING),
    **rows_of(_reshape, "view", "reshape", "flatten.using_ints", "unflatten.int", "_unsafe_view", "view_as"),
    **rows_of(_permute, "permute"),
    **rows_of(_transpose, "transpose.int", "t", "mT", "adjoint", "numpy_T"),
    **rows_of(_unsqueeze, "unsqueeze"),
    **rows_of(_squeeze, "squeeze", "squeeze.dim", "squeeze.dims"),
    **rows_of(_expand, "expand", "expand_as", "broadcast_to"),
    **rows_of(_repeat, "repeat"),
    **rows_of(_select, "select.int"),
    **rows_of(_slice, "slice.Tensor"),
    **rows_of(_narrow, "narrow"),
    **rows_of(_pieces, "chunk", "split.Tensor", "split_with_sizes", "split.sizes"),
    **rows_of(_unbind, "unbind.int"),
    **rows_of(_concatenate, "cat", "concat", "concatenate"),
    **rows_of(_stack, "stack"),
    **rows_of(_flip, "flip"),
    **rows_of(_index_select, "index_select"),
    **rows_of(_by_index, "index.Tensor"),
    **rows_of(_glu, "glu"),
    **rows_of(_filled, *_MADE_OF_ONE_NUMBER),
    **rows_of(_nothing, "_assert_tensor_metadata", "_assert_async.msg", "_assert_scalar"),
    **rows_of(_nothing, "arange", "arange.start", "arange.start_step", "eye", "scalar_tensor"),
}
