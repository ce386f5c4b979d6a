"""How channels run through operators that look at many numbers along axes: pooling, padding, sums, softmax."""

from __future__ import annotations

from typing import Any

from torch import fx

from edgekit.nets.graph import aten, value_of
from edgekit.passes.prune.flow import Flow, Rule, Value, axes_of, axis_of, blank, rows_of
from edgekit.passes.prune.labels import Labels, dropped


def _padded(flow: Flow, node: fx.Node) -> Value:
    """Axes that grow keep their channels."""
    given, shape = flow.of(node.args[0]), tuple(value_of(node).shape)
    grown = [axis for axis in range(len(shape)) if given.shape[axis] != shape[axis]]
    flow.freeze_axes(given, grown, "they are padded")
    return Labels(shape, flow.of(node.args[0]).without(grown))


def _windows(spatial: int) -> Rule:
    """Pooling and resizing: the last axes have no channels."""

    def rule(flow: Flow, node: fx.Node) -> Value:
        given = flow.of(node.args[0])
        rank = len(given.shape)
        places = list(range(rank - spatial, rank))
        flow.freeze_axes(given, places, "windows run along them")
        parts = flow.of(node.args[0]).without(places)
        made = blank(node)
        if isinstance(made, list):
            return [Labels(one.shape, parts) for one in made]
        return Labels(made.shape, parts)

    return rule


def _along(position: int, name: str, how: str) -> Rule:
    """What needs all numbers along an axis, and gives as many: softmax, cumulative sums."""

    def rule(flow: Flow, node: fx.Node) -> Value:
        given = flow.of(node.args[0])
        flow.freeze_axes(given, [axis_of(node, position, name, len(given.shape), -1)], f"{how} runs over them")
        return flow.of(node.args[0])

    return rule


def _is_mean_square(node: fx.Node) -> bool:
    """What a root mean square norm that is written by hand divides by: it may average over fewer channels."""
    source = node.args[0]
    if node.target is not aten.mean.dim or not isinstance(source, fx.Node) or not (node.args[2:3] or (False,))[0]:
        return False
    return source.target is aten.square.default or bool(source.target is aten.pow.Tensor_Scalar and source.args[1] == 2)


def _reduce(flow: Flow, node: fx.Node) -> Value:
    """Sums, means, maxima along axes, or along all."""
    given = flow.of(node.args[0])
    rank = len(given.shape)
    axes = axes_of(node.args[1] if len(node.args) > 1 else node.kwargs.get("dim"), rank)
    if _is_mean_square(node) and axes == [rank - 1]:
        ids = flow.along(given, rank - 1)
        if ids is not None:
            flow.inexact.append(ids)
    else:
        flow.freeze_axes(given, axes, f"{str(node.target).split('.')[1]} runs over them")
    left = flow.of(node.args[0])
    made = blank(node)
    shape = (made[0] if isinstance(made, list) else made).shape
    result = Labels(tuple(1 if axis in axes else left.shape[axis] for axis in range(rank)), left.without(axes))
    if len(shape) != rank:
        for axis in sorted(axes, reverse=True):
            result = dropped(result, axis)
    return [result for _ in made] if isinstance(made, list) else result


_POOLS: dict[int, tuple[str, ...]] = {
    1: ("avg_pool1d", "max_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d", "upsample_linear1d.vec"),
    2: (
        *("avg_pool2d", "max_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "max_pool2d_with_indices"),
        *("upsample_nearest2d.vec", "upsample_bilinear2d.vec", "upsample_bicubic2d.vec"),
        *("upsample_nearest2d", "upsample_bilinear2d", "_upsample_bilinear2d_aa.vec"),
    ),
    3: ("avg_pool3d", "max_pool3d", "adaptive_avg_pool3d"),
}
_SUMS = (
    *("mean", "mean.dim", "sum", "sum.dim_IntList", "amax", "amin", "max.dim", "min.dim", "max", "min", "prod.dim_int"),
    *("var.dim", "var.correction", "std.dim", "std.correction", "var_mean.correction", "norm.ScalarOpt_dim"),
    *("linalg_vector_norm", "logsumexp", "argmax", "argmin", "any.dim", "all.dim"),
)

SUM_RULES: dict[Any, Rule] = {
    **rows_of(_padded, "pad", "constant_pad_nd"),
    **{op: rule for axes, names in _POOLS.items() for op, rule in rows_of(_windows(axes), *names).items()},
    **rows_of(_along(1, "dim", "softmax"), "softmax.int", "log_softmax.int", "_softmax", "_log_softmax"),
    **rows_of(_along(1, "dim", "a running sum"), "cumsum", "cumprod"),
    **rows_of(_reduce, *_SUMS),
}
