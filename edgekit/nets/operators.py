"""What kind of operator a node of the canonical program is. Conventions speak of kinds, never of torch operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten

KINDS: Mapping[Any, str] = {
    aten.conv1d.default: "conv",
    aten.conv2d.default: "conv",
    aten.linear.default: "linear",
    aten.matmul.default: "matmul",
    aten.add.Tensor: "add",
    aten.sub.Tensor: "sub",
    aten.mul.Tensor: "mul",
    aten.sigmoid.default: "sigmoid",
    aten.tanh.default: "tanh",
    aten.softmax.int: "softmax",
    aten.gelu.default: "gelu",
    aten.layer_norm.default: "layer_norm",
    aten.mean.dim: "reduce_mean",
    aten.adaptive_avg_pool2d.default: "average_pool",
    aten.avg_pool2d.default: "average_pool",
    aten.max_pool2d.default: "max_pool",
    aten.cat.default: "concat",
    aten.relu.default: "relu",
    aten.relu6.default: "clamp",
    aten.hardtanh.default: "clamp",
    aten.clamp.default: "clamp",
    aten.pad.default: "move",
    aten.constant_pad_nd.default: "move",
    aten.slice.Tensor: "move",
    aten.select.int: "move",
    aten.reshape.default: "move",
    aten.flatten.using_ints: "move",
    aten.unflatten.int: "move",
    aten.t.default: "move",
    aten.permute.default: "move",
    aten.transpose.int: "move",
    aten.squeeze.default: "move",
    aten.squeeze.dim: "move",
    aten.squeeze.dims: "move",
    aten.unsqueeze.default: "move",
}

# values pass through unchanged: the output must have the grid of the input in every runtime
DATA_MOVEMENT = frozenset({"move", "max_pool"})


def kind_of(node: fx.Node) -> str | None:
    """Kind of a node; None for operators that no convention knows, and for nodes that are not operators."""
    if node.op != "call_function":
        return None
    if node.target is aten.adaptive_avg_pool2d.default and list(node.args[1]) == [1, 1]:  # type: ignore[arg-type]
        return "mean"  # over the whole image: runtimes have another kernel for it than for a pool with a window
    return KINDS.get(node.target)


def activations(node: fx.Node) -> list[fx.Node]:
    """The activation inputs of a node, in order: its tensor arguments without stored weights."""
    found: list[fx.Node] = []
    for arg in node.args:
        for item in arg if isinstance(arg, list | tuple) else (arg,):
            if isinstance(item, fx.Node) and item.op != "get_attr" and "val" in item.meta:
                found.append(item)
    return found


def unmoved(node: fx.Node) -> fx.Node:
    """What `node` moves; itself if it moves nothing."""
    while kind_of(node) in DATA_MOVEMENT:
        node = node.all_input_nodes[0]
    return node
