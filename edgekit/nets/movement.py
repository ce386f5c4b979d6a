"""Data movement in few words: chains of reshapes, transposes and slices between operators that compute.

A program is traced at a fixed batch, so every chain is known element by element, however it is spelled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from edgekit.nets.graph import LINEAR, aten, call_before, free_name, is_weight, set_tensor, tensor_of, value_of
from edgekit.numerics.rearrange import Rearrangement, find_columns, find_rearrangement

MOVES = frozenset(
    {
        aten.reshape.default,
        aten.flatten.using_ints,
        aten.unflatten.int,
        aten.permute.default,
        aten.t.default,
        aten.transpose.int,
        aten.squeeze.default,
        aten.squeeze.dim,
        aten.squeeze.dims,
        aten.unsqueeze.default,
        aten.select.int,
        aten.slice.Tensor,
    }
)
MADE = "edgekit_made"  # meta key of movement that is made here: it is named after what it moves, at every batch alike

_BY_ELEMENT = frozenset({aten.relu.default, aten.gelu.default, aten.sigmoid.default, aten.tanh.default})
_OF_TWO = frozenset({aten.add.Tensor, aten.mul.Tensor})


def origin(node: fx.Node) -> fx.Node:
    """The operator or input whose values `node` moves; itself if it moves none."""
    while node.target in MOVES:
        node = node.all_input_nodes[0]
    return node


def flatten_rows(module: fx.GraphModule) -> None:
    """Linear layers work on a matrix of rows, and products on one axis of matrices: runtimes have the better kernels
    for that, or make it so themselves at every run.

    Operators that work on each row or element by itself follow, so that few reshapes are left.
    """
    flattened: set[fx.Node] = set()  # reshapes back from what was flattened
    for node in list(module.graph.nodes):
        if node.op != "call_function":
            continue
        value = node.meta.get("val")
        if node.target in LINEAR and value.dim() > 2:
            source = node.all_input_nodes[0]
            node.args = (_reshape(node, source, [-1, value_of(source).shape[-1]]), *node.args[1:])
            flattened.add(_reshape_back(node, 1))
        elif node.target is aten.matmul.default and _batched(node):
            node.args = tuple(_reshape(node, arg, [-1, *value_of(arg).shape[-2:]]) for arg in node.args)
            flattened.add(_reshape_back(node, 2))
        elif _works_on_rows(node) and node.args[0] in flattened:
            (back, *others) = node.args
            if node.target is aten.softmax.int:
                others[0] = -1  # there are fewer axes before it now
            node.args = (back.args[0], *others)
            flattened.add(_reshape_back(node, value_of(back.args[0]).dim() - 1))
        elif node.target in _OF_TWO and not node.kwargs:
            pair = [arg for arg in node.args if isinstance(arg, fx.Node) and not is_weight(arg)]
            flat = [arg.args[0] for arg in pair if arg in flattened]
            if len(pair) != 2 or not flat or len({value_of(arg).shape for arg in pair}) != 1:
                continue
            (first, *_) = flat
            assert isinstance(first, fx.Node)
            shape = list(value_of(first).shape)
            node.args = tuple(_flat(node, arg, shape, flattened) for arg in pair)
            flattened.add(_reshape_back(node, len(shape) - 1))


def _flat(place: fx.Node, source: fx.Node, shape: list[int], flattened: set[fx.Node]) -> fx.Node:
    if source in flattened and list(value_of(source.all_input_nodes[0]).shape) == shape:
        return source.all_input_nodes[0]
    return _reshape(place, source, shape)


def _batched(node: fx.Node) -> bool:
    """Whether both sides of a product are arrays of as many matrices, along more than one axis."""
    if any(not isinstance(arg, fx.Node) or is_weight(arg) for arg in node.args):
        return False
    left, right = (value_of(arg).shape for arg in node.args if isinstance(arg, fx.Node))
    return len(left) > 3 and left[:-2] == right[:-2]


def _works_on_rows(node: fx.Node) -> bool:
    if node.target is aten.softmax.int:
        return node.args[1] in (-1, value_of(node).dim() - 1)
    return node.target in _BY_ELEMENT or (node.target is aten.layer_norm.default and len(node.args[1]) == 1)  # type: ignore[arg-type]


def _reshape_back(node: fx.Node, kept: int) -> fx.Node:
    """A reshape behind `node`, which now has one axis and the last `kept`, to the shape it had; readers read that."""
    value = value_of(node)
    back = _reshape(node.next, node, list(value.shape))
    back.meta["nn_module_stack"] = node.meta.get("nn_module_stack")
    node.replace_all_uses_with(back, delete_user_cb=lambda user: user is not back)
    node.meta["val"] = value.reshape(-1, *value.shape[value.dim() - kept :])
    return back


def _reshape(place: fx.Node, source: fx.Node, shape: list[int]) -> fx.Node:
    value = value_of(source).reshape(shape)
    return _made(place, aten.reshape.default, source, list(value.shape), value)


def _made(place: fx.Node, target: Any, source: fx.Node, argument: list[int], value: torch.Tensor) -> fx.Node:
    node = call_before(place, target, (source, argument), value)
    node.meta[MADE] = True
    return node


def split_linears(module: fx.GraphModule) -> None:
    """A linear layer of which every reader takes other columns becomes one layer for each run of columns.

    Queries, keys and values that come packed then need no copies, and each has a grid of its own.
    """
    for node in list(module.graph.nodes):
        if node.target not in LINEAR or value_of(node).dim() != 2 or not all(map(is_weight, node.args[1:3])):
            continue
        taken = {end: _columns(end, node) for end in _ends(node)}
        runs = [found[0] for found in taken.values() if found is not None]
        if len(runs) < len(taken) or len(set(runs)) < 2 or any(user.target not in MOVES for user in node.users):
            continue
        parts = {run: _columns_alone(module, node, run) for run in dict.fromkeys(runs)}
        for end, found in taken.items():
            assert found is not None
            _replace(end, parts[found[0]], found[1])


def _columns(end: fx.Node, node: fx.Node) -> tuple[tuple[int, int], torch.Tensor] | None:
    """The run of columns of a matrix that `end` is made of alone, and where its elements stand in them."""
    rows, columns = value_of(node).shape
    index = _index(end, node)
    run = find_columns(index, rows, columns)
    if run is None:
        return None
    inside = index // columns * (run[1] - run[0]) + index % columns - run[0]
    return None if find_rearrangement(inside) is None else (run, inside)


def _columns_alone(module: fx.GraphModule, node: fx.Node, run: tuple[int, int]) -> fx.Node:
    stored = []
    for tensor in node.args[1:3]:
        assert isinstance(tensor, fx.Node)
        name = free_name(module, str(tensor.target))
        set_tensor(module, name, tensor_of(module, tensor)[slice(*run)].clone())
        with module.graph.inserting_before(node):
            stored.append(module.graph.get_attr(name))
    return call_before(node, node.target, (node.args[0], *stored), value_of(node)[:, slice(*run)])


def shorten_chains(module: fx.GraphModule) -> None:
    """Every chain that moves all elements becomes at most a reshape, a permutation of axes, and a reshape."""
    for node in list(module.graph.nodes):
        if node.target in MOVES:
            continue
        for end in list(_ends(node)):
            if origin(end.all_input_nodes[0]) is not end.all_input_nodes[0]:
                _replace(end, node, _index(end, node))
    _merge_equal(module)


def _ends(node: fx.Node) -> Iterator[fx.Node]:
    """The last operators of the chains that begin behind `node`: what computing operators and the output read."""
    for user in list(node.users):
        if user.target in MOVES:
            if any(reader.target not in MOVES for reader in user.users):
                yield user
            yield from _ends(user)


def _index(end: fx.Node, start: fx.Node) -> torch.Tensor:
    """Where each element of `end` stands in the flat output of `start`."""
    if end is start:
        shape = value_of(start).shape
        return torch.arange(shape.numel()).reshape(shape)
    index = _index(end.all_input_nodes[0], start)
    assert callable(end.target)
    moved = end.target(index, *end.args[1:], **end.kwargs)
    assert isinstance(moved, torch.Tensor)
    return moved


def _replace(end: fx.Node, source: fx.Node, index: torch.Tensor) -> None:
    """What computes from `end` computes from `source` instead, by the shortest chain, if there is one."""
    found = find_rearrangement(index) if index.numel() == value_of(source).numel() else None
    if found is None:
        return
    node = source
    for target, argument in _spell(found, list(value_of(source).shape), list(index.shape)):
        assert callable(target)
        node = _made(end, target, node, argument, target(value_of(node), argument))
    end.replace_all_uses_with(node, delete_user_cb=lambda user: user.target not in MOVES)


def _spell(found: Rearrangement, before: list[int], after: list[int]) -> Iterator[tuple[Any, list[int]]]:
    """Reshapes and permutations by their arguments; axes of size 1 are used where they save a reshape."""
    if found.is_reshape:
        if before != after:
            yield aten.reshape.default, after
        return
    ones = after.count(1)
    split, order = list(found.split), list(found.order)
    moved = [split[axis] for axis in order]
    if [size for size in before if size != 1] == split:  # no reshape before: the source's own axes are permuted
        real = [axis for axis, size in enumerate(before) if size != 1]
        free = [axis for axis, size in enumerate(before) if size == 1]
        split, chosen = before, [real[axis] for axis in order]
        moved = [1] * len(free) + moved
        order = free + chosen
        if [size for size in after if size != 1] == moved[len(free) :] and ones == len(free):
            order, moved = [free.pop(0) if size == 1 else chosen.pop(0) for size in after], after
    elif [size for size in after if size != 1] == moved:  # no reshape behind
        split = [1] * ones + split
        free, chosen = list(range(ones)), [axis + ones for axis in order]
        order, moved = [free.pop(0) if size == 1 else chosen.pop(0) for size in after], after
    if split != before:
        yield aten.reshape.default, split
    yield aten.permute.default, order
    if moved != after:
        yield aten.reshape.default, after


def _merge_equal(module: fx.GraphModule) -> None:
    """Movement of the same tensor in the same words is done once."""
    first: dict[tuple[Any, ...], fx.Node] = {}
    for node in list(module.graph.nodes):
        if not node.meta.get(MADE):
            continue
        source, argument = node.args
        same = first.setdefault((node.target, source, tuple(argument)), node)
        if same is not node:
            node.replace_all_uses_with(same)
            module.graph.erase_node(node)
