"""Layers that stay in float between integers, though the TFLite converter would make integers of them.

It quantises a float weight by itself where its layer reads a DQ and only a Q reads the layer. While it converts, such a
layer reads a mark, an operator without integer form, which is taken out of the file again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import fx

from edgekit.formats.conventions.weights import qd
from edgekit.nets.graph import CONVOLUTIONS, LINEAR, aten, is_weight

MARK = aten.floor.default


@contextlib.contextmanager
def marked(module: fx.GraphModule) -> Iterator[int]:
    """The module with a mark in front of every float layer that reads a DQ, and how many they are."""
    marks = []
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target not in CONVOLUTIONS | LINEAR or not is_weight(node.args[1]):
            continue
        if node.args[0].target is qd.dequantize_per_tensor.default:
            with module.graph.inserting_before(node):
                marks.append(module.graph.call_function(MARK, (node.args[0],)))
            node.update_arg(0, marks[-1])
    module.recompile()
    try:
        yield len(marks)
    finally:
        for mark in marks:
            mark.replace_all_uses_with(mark.all_input_nodes[0])
            module.graph.erase_node(mark)
        module.recompile()
