"""Operators that TFLite has not, in as few of those that it has as can be: the converter takes twice as many."""

from __future__ import annotations

from typing import Any

from torch import fx

from edgekit.nets.graph import aten


def spell(module: fx.GraphModule) -> None:
    """Write layer norms over the last axis as means and products, softplus as a series that keeps small values,
    in place. The function stays the same.
    """
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target is aten.layer_norm.default and len(node.args[1]) == 1:
            _layer_norm(module.graph, node)
        elif node.op == "call_function" and node.target is aten.softplus.default:
            _softplus(module.graph, node)
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


def _softplus(graph: fx.Graph, node: fx.Node) -> None:
    """max(z, 0) + log(1 + e) with z = beta * x and e = exp(-|z|); all of it over beta.

    LiteRT's logarithm is right to 1e-7 of 1 and not of its result, so that softplus of -7 would keep four digits. The
    logarithm is 2 * atanh(s) instead, with s = e / (2 + e) in [0, 1/3]: seven terms of the series 1 + s^2 / 3 + s^4 / 5
    + ... leave out less than 2e-8 of it. The threshold above which PyTorch gives x itself needs no operator: there e
    adds nothing in float32.
    """
    defaults: list[Any] = [None, 1.0]
    source, beta = [*node.args, *defaults[len(node.args) :]][:2]
    with graph.inserting_before(node):
        scaled = source if beta == 1 else graph.call_function(aten.mul.Tensor, (source, beta))
        size = graph.call_function(aten.abs.default, (scaled,))
        small = graph.call_function(aten.exp.default, (graph.call_function(aten.neg.default, (size,)),))
        above = graph.call_function(aten.add.Tensor, (small, 2.0))
        ratio = graph.call_function(aten.div.Tensor, (small, above))
        square = graph.call_function(aten.mul.Tensor, (ratio, ratio))
        series = graph.call_function(aten.mul.Tensor, (square, 1 / 13))
        for divisor in (11, 9, 7, 5, 3):
            term = graph.call_function(aten.add.Tensor, (series, 1 / divisor))
            series = graph.call_function(aten.mul.Tensor, (term, square))
        whole = graph.call_function(aten.add.Tensor, (series, 1.0))
        half = graph.call_function(aten.mul.Tensor, (ratio, whole))
        logarithm = graph.call_function(aten.mul.Tensor, (half, 2.0))
        value = graph.call_function(aten.add.Tensor, (graph.call_function(aten.relu.default, (scaled,)), logarithm))
        if beta != 1:
            value = graph.call_function(aten.div.Tensor, (value, beta))
    node.replace_all_uses_with(value)
    graph.erase_node(node)
