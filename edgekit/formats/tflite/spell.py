"""Operators that TFLite has not, in as few of those that it has as can be: the converter takes twice as many."""

from __future__ import annotations

from typing import Any

from torch import fx

from edgekit.nets.graph import aten


def spell(module: fx.GraphModule) -> None:
    """Write layer norms over the last axis as means and products, in place. The function stays the same."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target is aten.layer_norm.default and len(node.args[1]) == 1:
            _layer_norm(module.graph, node)
    module.recompile()


def _layer_norm(graph: fx.Graph, node: fx.Node) -> None:
    """d = x - mean(x); d / sqrt(mean(d^2) + eps) * gamma + beta. Source: Ba et al., arXiv:1607.06450, eq. 4."""
    defaults: list[Any] = [None, None, None, None, 1e-5]
    source, _, gamma, beta, eps = [*node.args, *defaults[len(node.args) :]][:5]
    with graph.inserting_before(node):
        mean = graph.call_function(aten.mean.dim, (source, [-1], True))
        rest = graph.call_function(aten.sub.Tensor, (source, mean))
        square = graph.call_function(aten.mul.Tensor, (rest, rest))
        variance = graph.call_function(aten.mean.dim, (square, [-1], True))
        steady = graph.call_function(aten.add.Tensor, (variance, eps))
        inverse = graph.call_function(aten.rsqrt.default, (steady,))
        value = graph.call_function(aten.mul.Tensor, (rest, inverse))
        if isinstance(gamma, fx.Node):
            value = graph.call_function(aten.mul.Tensor, (value, gamma))
        if isinstance(beta, fx.Node):
            value = graph.call_function(aten.add.Tensor, (value, beta))
    node.replace_all_uses_with(value)
    graph.erase_node(node)
