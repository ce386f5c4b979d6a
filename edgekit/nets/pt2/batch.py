"""A program that was exported for one batch, made to take any, where that is the same function sample by sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgekit.errors import ModelError
from edgekit.nets.pt2.graph import Call, Graph, Value
from edgekit.nets.pt2.network import ExportedNetwork, OfBatch

aten = torch.ops.aten
_MOVES = (aten.view.default, aten.reshape.default, aten._unsafe_view.default)
_REPEATS = (aten.expand.default, aten.repeat.default)
_MAKES = (aten.full.default, aten.zeros.default, aten.ones.default)
_MAKES_LIKE = (aten.new_zeros.default, aten.new_ones.default, aten.new_full.default)
_SAME_RATIO = 1e-4  # of the largest output: kernels differ between batches in the last bits


def free_batch(network: ExportedNetwork, where: str) -> None:
    """Make every size that stands for the batch follow it, in place.

    A program holds the sizes that it was exported with. Those that a larger batch contradicts are found by carrying it
    out at one; what is found is proven: a batch must give what its samples give one by one.

    Raises:
        ModelError: it is another function at another batch, with the line that exports it with a free one.
    """
    graph = network.graph
    names = [name for name in graph.inputs if name is not None]
    sizes = {name: graph.sizes[name] for name in names}
    if all(size[:1] == (None,) for size in sizes.values()):
        return
    written = {size[0] if size else None for size in sizes.values()}
    if len(written) != 1 or None in written:
        raise _refuse(names, f"its inputs have the first dimensions {sorted(map(str, written))}", where)
    (batch,) = written
    assert batch is not None
    reason = ""
    for axis in (0, 1):  # where a tensor that the program makes, as first states, has its batch
        network.graph = graph
        try:
            with torch.no_grad():
                _adapt(network, tuple(_example(graph, name, 3 * batch) for name in names), batch, axis)
                _prove(network, tuple(_example(graph, name, 3 * batch) for name in names), batch)
            return
        except Exception as err:  # whichever operator meets a size of the wrong batch first
            reason = reason or str(err).splitlines()[0]
    raise _refuse(names, reason, where)


def _prove(network: ExportedNetwork, inputs: tuple[Tensor, ...], batch: int) -> None:
    together = pytree.tree_leaves(network(*inputs))
    parts = [
        pytree.tree_leaves(network(*(tensor[start : start + batch] for tensor in inputs)))
        for start in range(0, 3 * batch, batch)
    ]
    for position, whole in enumerate(together):
        apart = torch.cat([part[position] for part in parts]) if whole.dim() else whole
        if apart.shape != whole.shape or not _same(apart, whole):
            raise ValueError(f"it computes something else at batch {3 * batch}")


def _adapt(network: ExportedNetwork, inputs: tuple[Tensor, ...], batch: int, axis: int) -> None:
    values = network.given(inputs)
    for position, call in enumerate(network.graph.calls):
        changed = _changed(call, values, network.graph, batch, axis)
        if changed is not None:
            network.replace_call(position, changed)
        network.carry_out(position, values, inputs[0].shape[0])


def _changed(call: Call, values: Mapping[str, Any], graph: Graph, batch: int, made_along: int) -> Call | None:
    """The call with sizes that follow the batch; None where it needs no change, or has no sizes."""
    place = 0 if call.function in _MAKES else 1
    if call.function not in (*_MOVES, *_REPEATS, *_MAKES, *_MAKES_LIKE) or len(call.args) <= place:
        return None
    sizes = call.args[place]
    if not isinstance(sizes, tuple) or not all(type(size) is int for size in sizes):
        return None
    axis: int | None = made_along if len(sizes) > made_along and sizes[made_along] == batch else None
    if call.function in (*_MOVES, *_REPEATS) and isinstance(call.args[0], Value):
        name = call.args[0].name
        along = _batch_axis(values[name], graph.sizes.get(name, ()))
        made = graph.sizes.get(call.outputs[0], ())
        if call.function in _MOVES:
            axis = None if along is None else _where_to(graph.sizes[name], along, made)
        elif along is not None and call.function is aten.expand.default:
            axis = along + len(sizes) - values[name].dim()
        elif along is not None:
            return None  # a repeated batch keeps its factor
        else:
            axis = 0 if sizes[:1] == (batch,) else None
    if axis is None or sizes[axis] == -1 or sizes[axis] % batch:
        return None
    return _with(call, place, (*sizes[:axis], OfBatch(sizes[axis] // batch), *sizes[axis + 1 :]))


def _with(call: Call, place: int, sizes: tuple[Any, ...]) -> Call:
    return replace(call, args=(*call.args[:place], sizes, *call.args[place + 1 :]))


def _batch_axis(value: Any, written: tuple[int | None, ...]) -> int | None:
    """The axis along which a value is longer than the program says; None: it does not depend on the batch."""
    if not isinstance(value, Tensor) or len(written) != value.dim():
        return None
    longer = [axis for axis, size in enumerate(value.shape) if size != written[axis]]
    return longer[0] if longer else None


def _where_to(before: tuple[int | None, ...], axis: int, after: tuple[int | None, ...]) -> int | None:
    """The axis that the batch lies in after a view: the one that spans as many blocks before it as there were."""
    if None in before or None in after:
        return None
    blocks = prod(size for size in before[:axis] if size is not None)
    if axis < len(after) and after[axis] == before[axis] and prod(after[:axis]) == blocks:  # type: ignore[arg-type]
        return axis
    spanned = 1
    for place, size in enumerate(after):
        assert size is not None
        if spanned == blocks or spanned * size > blocks:
            return place
        spanned *= size
    return None


def _example(graph: Graph, name: str, batch: int) -> Tensor:
    sizes = tuple(1 if size is None else size for size in graph.sizes[name][1:])
    generator = torch.Generator().manual_seed(0)
    if graph.dtypes[name].is_floating_point:
        return torch.randn((batch, *sizes), generator=generator).to(graph.dtypes[name])
    return torch.randint(0, 2, (batch, *sizes), generator=generator).to(graph.dtypes[name])  # codes that any table has


def _same(one: Tensor, other: Tensor) -> bool:
    if not one.is_floating_point():
        return torch.equal(one, other)
    largest = one.abs().max().item() if one.numel() else 0.0
    return bool(torch.allclose(one, other, rtol=0.0, atol=_SAME_RATIO * max(largest, 1e-6), equal_nan=True))


def _refuse(names: list[str], what: str, where: str) -> ModelError:
    shapes = ", ".join(f"{name!r}: {{0: torch.export.Dim('batch')}}" for name in names)
    return ModelError(
        f"the program runs at the batch alone that it was exported with: {what}",
        where,
        f"export it with a free one: torch.export.export(network, example, dynamic_shapes={{{shapes}}})",
    )
