"""A program in float16, with float32 inputs and outputs, for an exporter."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from edgekit.nets.graph import aten, tensor_of


def in_half_precision(module: fx.GraphModule) -> fx.GraphModule:
    """A copy that computes in float16: inputs are cast after they come in, outputs before they go out.

    What each operator really computes in is the runtime's to say. A processor without float16 kernels casts to and fro.
    """
    graph = fx.Graph()
    ends = graph.graph_copy(module.graph, {})
    tensors: dict[str, Tensor] = {}
    for node in list(graph.nodes):
        if node.op == "get_attr":
            value = tensor_of(module, node)
            tensors[str(node.target)] = value.half() if value.is_floating_point() else value
        elif node.op == "placeholder" and node.meta["val"].is_floating_point():
            with graph.inserting_after(node):
                cast = graph.call_function(aten.to.dtype, (node, torch.float16))
            node.replace_all_uses_with(cast, delete_user_cb=lambda user, own=cast: user is not own)
    assert isinstance(ends, tuple | list)
    given = []
    for end in ends:
        assert isinstance(end, fx.Node)
        floating = end.meta["val"].is_floating_point()
        given.append(graph.call_function(aten.to.dtype, (end, torch.float32)) if floating else end)
    graph.output(tuple(given))
    return fx.GraphModule(tensors, graph).eval()
