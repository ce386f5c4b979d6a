"""Rewrites for transformers and gates: composite operators become the few that placement rules and exporters know."""

from __future__ import annotations

import math
import operator

import torch
from torch import fx

from edgekit.nets.graph import (
    CONVOLUTIONS,
    LINEAR,
    aten,
    call_before,
    free_name,
    is_weight,
    set_tensor,
    tensor_of,
    value_of,
)
from edgekit.nets.movement import MOVES

_PIECES = frozenset({aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int})

_SUMS_AND_PRODUCTS = frozenset({aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor})


def cut_by_slices(module: fx.GraphModule) -> None:
    """What `chunk`, `split` and `unbind` give becomes slices, each an operator of its own."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target not in _PIECES:
            continue
        unbound = node.target is aten.unbind.int
        position = 1 if unbound else 2
        axis = node.args[position] if len(node.args) > position else node.kwargs.get("dim", 0)
        ends = [0]
        for piece in node.meta["val"]:
            ends.append(ends[-1] + (1 if unbound else piece.shape[axis]))
        for user in list(node.users):
            assert user.target is operator.getitem
            place = user.args[1]
            if unbound:
                user.target, user.args = aten.select.int, (node.args[0], axis, place)
            else:
                user.target, user.args = aten.slice.Tensor, (node.args[0], axis, ends[place], ends[place + 1])


def open_composites(module: fx.GraphModule) -> None:
    """Attention, SiLU and products with a stored matrix in the operators that they are made of."""
    for node in list(module.graph.nodes):
        if node.op != "call_function":
            continue
        if node.target is aten.scaled_dot_product_attention.default:
            _open_attention(node)
        elif node.target in (aten.silu.default, aten.silu_.default):
            gate = call_before(node, aten.sigmoid.default, (node.args[0],), value_of(node))
            node.target, node.args = aten.mul.Tensor, (node.args[0], gate)
        elif node.target is aten.bmm.default:
            node.target = aten.matmul.default
        elif node.target is aten.baddbmm.default and not node.kwargs:
            product = call_before(node, aten.matmul.default, node.args[1:], value_of(node))
            node.target, node.args = aten.add.Tensor, (product, node.args[0])
        if node.target is aten.matmul.default and is_weight(node.args[1]):
            _matrix_product(module, node)


def _open_attention(node: fx.Node) -> None:
    """softmax(q k^T / sqrt(d)) v, where nothing is masked; a masked one stays whole.

    Source: Vaswani et al., arXiv:1706.03762, eq. 1.
    """
    query, key, value, *rest = node.args
    options = dict(zip(("attn_mask", "dropout_p", "is_causal"), rest, strict=False)) | dict(node.kwargs)
    scale = options.pop("scale", None)
    if any(options.values()):
        return
    assert isinstance(query, fx.Node)
    assert isinstance(key, fx.Node)
    width = value_of(query).shape[-1]
    scaled = call_before(
        node, aten.mul.Tensor, (query, 1 / math.sqrt(width) if scale is None else scale), value_of(query)
    )
    turned = call_before(node, aten.transpose.int, (key, -2, -1), value_of(key).transpose(-2, -1))
    scores = value_of(query)[..., :1].expand(*value_of(query).shape[:-1], value_of(key).shape[-2])
    product = call_before(node, aten.matmul.default, (scaled, turned), scores)
    chances = call_before(node, aten.softmax.int, (product, -1), scores)
    node.target, node.args, node.kwargs = aten.matmul.default, (chances, value), {}


def _matrix_product(module: fx.GraphModule, node: fx.Node) -> None:
    """`x @ W` with a stored matrix is a linear layer whose weight is W transposed."""
    stored = node.args[1]
    assert isinstance(stored, fx.Node)
    matrix = tensor_of(module, stored)
    if matrix.dim() != 2:
        return
    name = free_name(module, str(stored.target))
    set_tensor(module, name, matrix.T.contiguous())
    with module.graph.inserting_before(node):
        node.target, node.args = aten.linear.default, (node.args[0], module.graph.get_attr(name))


def fold_scales(module: fx.GraphModule) -> None:
    """A product with one number goes into the weight of the layer before it, where nothing else reads that layer."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.kwargs:
            continue
        factor = _factor(module, node)
        if factor is None:
            continue
        layer = node.args[0]
        while layer.target in MOVES and len(layer.users) == 1:
            layer = layer.all_input_nodes[0]
        if layer.target not in LINEAR | CONVOLUTIONS or len(layer.users) != 1 or not is_weight(layer.args[1]):
            continue
        for position in (1, 2):
            if position < len(layer.args) and is_weight(layer.args[position]):
                name = free_name(module, str(layer.args[position].target))
                set_tensor(module, name, tensor_of(module, layer.args[position]) * factor)
                with module.graph.inserting_before(layer):
                    layer.update_arg(position, module.graph.get_attr(name))
        node.replace_all_uses_with(node.args[0])
        module.graph.erase_node(node)


def _factor(module: fx.GraphModule, node: fx.Node) -> float | None:
    """The number that a node multiplies its first input by."""
    if node.target not in (aten.mul.Tensor, aten.div.Tensor):
        return None
    other = node.args[1]
    if isinstance(other, fx.Node):
        if not is_weight(other) or tensor_of(module, other).numel() != 1:
            return None
        other = tensor_of(module, other).item()
    assert isinstance(other, int | float)
    return float(other) if node.target is aten.mul.Tensor else 1 / other


def store_numbers(module: fx.GraphModule) -> None:
    """Numbers in sums and products are stored tensors, as integer kernels want them; a division multiplies."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.kwargs or not isinstance(node.meta.get("val"), torch.Tensor):
            continue
        if node.target is aten.div.Tensor and (factor := _factor(module, node)) is not None:
            node.target, node.args = aten.mul.Tensor, (node.args[0], factor)
        if node.target is aten.rsub.Scalar and len(node.args) == 2:
            node.target, node.args = aten.sub.Tensor, (node.args[1], node.args[0])
        if node.target not in _SUMS_AND_PRODUCTS or not value_of(node).is_floating_point():
            continue
        for position, arg in enumerate(node.args):
            if isinstance(arg, int | float):
                name = free_name(module, "number")
                set_tensor(module, name, torch.tensor(float(arg)))
                with module.graph.inserting_before(node):
                    node.update_arg(position, module.graph.get_attr(name))
