"""Rewrites of a traced graph into the one form that placement rules and exporters know. Each keeps its function."""

from __future__ import annotations

import torch
from torch import fx

from edgekit.nets.attention import cut_by_slices, fold_scales, open_composites, store_numbers
from edgekit.nets.graph import (
    CONVOLUTIONS,
    LINEAR,
    aten,
    conv2d_defaults,
    free_name,
    is_weight,
    set_tensor,
    tensor_of,
    zero_pad,
)
from edgekit.nets.movement import flatten_rows, shorten_chains, split_linears
from edgekit.numerics.fold import NormStats, fold_batch_norm

_PADDED_BY_WORD = {aten.conv1d.padding: aten.conv1d.default, aten.conv2d.padding: aten.conv2d.default}
_NO_OP_IN_EVAL = frozenset(
    {
        aten.dropout.default,
        aten.dropout_.default,
        aten.alias.default,
        aten.contiguous.default,
        aten.clone.default,
        aten.detach.default,
    }
)
_SAME_RESULT = {
    aten.relu_.default: aten.relu.default,
    aten.add_.Tensor: aten.add.Tensor,
    aten.mul_.Tensor: aten.mul.Tensor,
    aten.hardtanh_.default: aten.hardtanh.default,
    aten.view.default: aten.reshape.default,  # an exporter that moves channels last has no memory to view
}


def canonicalise(module: fx.GraphModule) -> None:
    """Every rewrite, in place. The module owns its tensors."""
    _drop_no_ops(module)
    cut_by_slices(module)
    _compute_constants(module)
    _pad_by_number(module)
    _scale_apart(module)
    open_composites(module)
    _own_tensors(module)
    _fold_norms(module)
    _fold_pads(module)
    _global_pools(module)
    flatten_rows(module)
    split_linears(module)
    fold_scales(module)
    store_numbers(module)
    shorten_chains(module)


def _drop_no_ops(module: fx.GraphModule) -> None:
    for node in list(module.graph.nodes):
        if node.op != "call_function":
            continue
        node.target = _SAME_RESULT.get(node.target, node.target)
        if node.target in _NO_OP_IN_EVAL or _expands_nothing(node):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)


def _expands_nothing(node: fx.Node) -> bool:
    source = node.args[0] if node.args else None
    if node.target is not aten.expand.default or not isinstance(source, fx.Node) or "val" not in source.meta:
        return False
    return bool(source.meta["val"].shape == node.meta["val"].shape)


def _compute_constants(module: fx.GraphModule) -> None:
    """What an operator makes of stored tensors alone, such as a transposed weight, is stored instead.

    It is stored once, however often it is made: a loop over time makes the same of its weights at every step.
    """
    values: dict[fx.Node, torch.Tensor] = {}
    made: dict[tuple[object, str], fx.Node] = {}
    for node in list(module.graph.nodes):
        if node.op == "get_attr":
            values[node] = tensor_of(module, node)
            continue
        sources = node.all_input_nodes
        if node.op != "call_function" or not sources or not all(source in values for source in sources):
            continue
        said = node.target, str(fx.map_arg((node.args, node.kwargs), lambda source: str(source.target)))
        if said in made:
            node.replace_all_uses_with(made[said])
            module.graph.erase_node(node)
            continue
        with torch.no_grad():
            value = node.target(*fx.map_arg(node.args, values.get), **fx.map_arg(node.kwargs, values.get))
        if not isinstance(value, torch.Tensor) or any(user.op == "output" for user in node.users):
            continue
        name = free_name(module, f"{sources[0].target}_{node.name}")
        set_tensor(module, name, value.detach().clone())
        with module.graph.inserting_before(node):
            stored = module.graph.get_attr(name)
        node.replace_all_uses_with(stored)
        values[stored], made[said] = value, stored
        module.graph.erase_node(node)


def _pad_by_number(module: fx.GraphModule) -> None:
    """Padding said as `same` or `valid` becomes numbers; the odd pixel of `same` is a pad of its own at the end."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target not in _PADDED_BY_WORD:
            continue
        source, weight = node.args[0], tensor_of(module, node.args[1])
        axes = weight.dim() - 2
        args = [*node.args, *[None, [1] * axes, "valid", [1] * axes, 1][len(node.args) - 2 :]]
        dilation = [*args[5]] * (axes if len(args[5]) == 1 else 1)
        totals = [d * (k - 1) if args[4] == "same" else 0 for d, k in zip(dilation, weight.shape[2:], strict=True)]
        args[4] = [total // 2 for total in totals]
        if any(total % 2 for total in totals):
            amounts = [part for total in reversed(totals) for part in (0, total % 2)]
            with module.graph.inserting_before(node):
                args[0] = module.graph.call_function(aten.constant_pad_nd.default, (source, amounts))
            args[0].meta = {**node.meta, "val": torch.nn.functional.pad(source.meta["val"], amounts)}
        node.target, node.args = _PADDED_BY_WORD[node.target], tuple(args)


def _scale_apart(module: fx.GraphModule) -> None:
    """`add(x, y, alpha=a)` becomes `add(x, a * y)`, which every exporter knows."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target is not aten.add.Tensor or "alpha" not in node.kwargs:
            continue
        alpha, other = node.kwargs["alpha"], node.args[1]
        if isinstance(other, fx.Node):
            with module.graph.inserting_before(node):
                scaled = module.graph.call_function(aten.mul.Tensor, (other, alpha))
            scaled.meta = dict(other.meta if "val" in other.meta else node.meta)
        else:
            scaled = other * alpha
        node.args, node.kwargs = (node.args[0], scaled), {}


def _own_tensors(module: fx.GraphModule) -> None:
    """What several layers share becomes a copy for each, where the layers will differ: weights that a norm is folded
    into, and biases, whose integer codes depend on the layer's input.
    """
    readers: dict[str, list[tuple[fx.Node, int]]] = {}
    for node in module.graph.nodes:
        if node.op == "call_function" and node.target in CONVOLUTIONS | LINEAR:
            for position in (1, 2):
                if position < len(node.args) and is_weight(node.args[position]):
                    readers.setdefault(str(node.args[position].target), []).append((node, position))
    for name, places in readers.items():
        if len(places) == 1:
            continue
        normed = any(user.target is aten.batch_norm.default for node, _ in places for user in node.users)
        for node, position in places[1:]:
            if position == 1 and not normed:
                continue
            copy = free_name(module, name)
            set_tensor(module, copy, tensor_of(module, node.args[position]).clone())  # type: ignore[arg-type]
            with module.graph.inserting_before(node):
                node.update_arg(position, module.graph.get_attr(copy))


def _fold_norms(module: fx.GraphModule) -> None:
    """conv or linear -> batch norm becomes one layer (RepVGG, arXiv:2101.03697, eq. 3)."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target is not aten.batch_norm.default:
            continue
        layer = node.args[0]
        foldable = layer.op == "call_function" and layer.target in CONVOLUTIONS | LINEAR and len(layer.users) == 1
        if not foldable or not all(is_weight(arg) for arg in layer.args[1:2]):
            continue
        gamma, beta, mean, var = (None if arg is None else tensor_of(module, arg) for arg in node.args[1:5])
        assert mean is not None
        assert var is not None
        norm = NormStats(
            mean=mean,
            var=var,
            gamma=torch.ones_like(mean) if gamma is None else gamma,
            beta=torch.zeros_like(mean) if beta is None else beta,
            eps=float(node.args[7]),
        )
        bias_node = layer.args[2] if len(layer.args) > 2 else None
        bias = None if bias_node is None else tensor_of(module, bias_node)
        weight, shift = fold_batch_norm(tensor_of(module, layer.args[1]), bias, norm)
        weight_name = str(layer.args[1].target)
        bias_name = (
            weight_name.removesuffix("weight") + "bias" if weight_name.endswith("weight") else f"{weight_name}_bias"
        )
        set_tensor(module, weight_name, weight)
        set_tensor(module, bias_name, shift)
        if bias_node is None:
            with module.graph.inserting_before(layer):
                bias_node = module.graph.get_attr(bias_name)
            layer.args = (*layer.args[:2], bias_node, *layer.args[3:])
        elif str(bias_node.target) != bias_name:
            bias_node.target = bias_name
        node.replace_all_uses_with(layer)
        module.graph.erase_node(node)


def _fold_pads(module: fx.GraphModule) -> None:
    """A symmetric zero pad in front of a convolution becomes the convolution's own padding."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target is not aten.conv2d.default:
            continue
        pad = node.args[0]
        if len(pad.users) != 1 or (amounts := zero_pad(pad)) is None:
            continue
        left, right, top, bottom = amounts
        if left != right or top != bottom:
            continue
        args = [*node.args, *conv2d_defaults(node)[len(node.args) :]]
        args[0] = pad.args[0]
        args[4] = [args[4][0] + top, args[4][1] + left]
        node.args = tuple(args)
        module.graph.erase_node(pad)


def _global_pools(module: fx.GraphModule) -> None:
    """mean over height and width becomes a global average pool, which runtimes have an integer kernel for."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target is not aten.mean.dim or node.kwargs:
            continue
        value = node.args[0].meta.get("val")
        axes = node.args[1]
        if value is None or value.dim() != 4 or sorted(axis % 4 for axis in axes) != [2, 3]:
            continue
        keep = len(node.args) > 2 and bool(node.args[2])
        with module.graph.inserting_before(node):
            pool = module.graph.call_function(aten.adaptive_avg_pool2d.default, (node.args[0], [1, 1]))
            pool.meta = dict(node.meta)
            pool.meta["val"] = value.mean((2, 3), keepdim=True)
            new = pool
            if not keep:
                new = module.graph.call_function(aten.flatten.using_ints, (pool, 1))
                new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
        module.graph.erase_node(node)
