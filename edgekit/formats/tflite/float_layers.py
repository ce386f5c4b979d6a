"""Operators that stay in float between integers, though the TFLite converter would make integers of them.

It quantises a float weight by itself where its layer reads a DQ and only a Q reads the layer, and takes any other
operator there for an integer one. While it converts, they read a mark, an operator without integer form, which is taken
out of the file again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from torch import fx

from edgekit.formats.conventions.weights import qd
from edgekit.nets.graph import CONVOLUTIONS, LINEAR, aten, is_weight
from edgekit.nets.operators import unmoved

MARK = aten.floor.default


@contextlib.contextmanager
def marked(module: fx.GraphModule, islands: Sequence[fx.Node] = ()) -> Iterator[int]:
    """The module with a mark in front of every float operator that would be taken for integers, and how many they are.

    Args:
        islands: of `lowering.Lowered`; float layers that read a DQ are found here.
    """
    marks = [mark for node in islands for mark in _mark(node)]
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target not in CONVOLUTIONS | LINEAR or not is_weight(node.args[1]):
            continue
        if node.args[0].target is qd.dequantize_per_tensor.default:
            marks += _mark(node)
    marks += _mark_outputs(module.graph)
    module.recompile()
    try:
        yield len(marks)
    finally:
        for mark in marks:
            mark.replace_all_uses_with(mark.all_input_nodes[0])
            module.graph.erase_node(mark)
        module.recompile()


def _mark_outputs(graph: fx.Graph) -> list[fx.Node]:
    """A mark between an output in float and the Q of those who read it in codes: the converter would give its codes."""
    marks = []
    for end in next(node for node in graph.nodes if node.op == "output").all_input_nodes:
        for user in [user for user in end.users if user.target is qd.quantize_per_tensor.default]:
            with graph.inserting_before(user):
                marks.append(graph.call_function(MARK, (end,)))
            user.replace_input_with(end, marks[-1])
    return marks


def _mark(node: fx.Node) -> list[fx.Node]:
    """A mark behind each DQ that an input of `node` comes from, however it is moved on the way.

    One would do for most, but a concatenation hands the grid of its output on to every input that it sees codes of.
    """
    marks = []
    for source in dict.fromkeys(unmoved(source) for source in node.all_input_nodes if source.op != "get_attr"):
        if source.target is not MARK:  # else it is marked for another
            with node.graph.inserting_after(source):
                marks.append(node.graph.call_function(MARK, (source,)))
            for user in [user for user in source.users if user is not marks[-1]]:
                user.replace_input_with(source, marks[-1])
    return marks
