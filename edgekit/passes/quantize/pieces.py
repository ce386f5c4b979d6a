"""A program cut where it narrows to one activation: residual blocks, found without knowing their names."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from edgekit.nets.graph import CONVOLUTIONS, LINEAR, value_of
from edgekit.nets.program import Program
from edgekit.passes.quantize.rows import groups_of
from edgekit.passes.quantize.simulate import weighted, written
from edgekit.passes.quantize.stream import operators


@dataclass(frozen=True)
class Piece:
    """Consecutive operators of a program.

    Attributes:
        nodes: in order.
        layers: activation name -> node of its convolutions and linear layers with a stored weight, in order.
        narrow: whether the last node makes the only activation that anything outside reads.
    """

    nodes: tuple[fx.Node, ...]
    layers: dict[str, fx.Node]
    narrow: bool

    @property
    def inputs(self) -> list[fx.Node]:
        """What the piece reads of the pieces before it."""
        own = set(self.nodes)
        read = dict.fromkeys(source for node in self.nodes for source in node.all_input_nodes)
        return [node for node in read if node not in own and node.op != "get_attr"]


def cut(program: Program) -> list[Piece]:
    """The program in pieces, each up to the next place where one activation is all that later operators read.

    So a residual block is a piece, and so is every layer of a chain. A depthwise convolution and the layer behind it
    stay together, since each does half of what a convolution does. Within a kernel nothing is cut.
    """
    nodes = operators(program)
    place = {node: index for index, node in enumerate(nodes)}
    ends, layers = set(written(program)), {node: name for name, node in weighted(program).items()}
    found: list[Piece] = []
    piece: list[fx.Node] = []
    reach = -1  # the last place that reads anything made before the present one
    half = False  # of a depthwise convolution and the layer behind it

    def close(narrow: bool) -> None:
        found.append(Piece(tuple(piece), {layers[node]: node for node in piece if node in layers}, narrow))
        piece.clear()

    for node in nodes:
        piece.append(node)
        if node.target in CONVOLUTIONS | LINEAR:
            half = _is_depthwise(node)
        if program.names[node] in ends and reach <= place[node] and not half:
            close(narrow=True)
        reach = max(reach, *(place.get(user, len(nodes)) for user in node.users))
    if piece:
        close(narrow=False)
    return found


def fused_behind(program: Program, name: str) -> fx.Node | None:
    """The activation function that the kernel of the layer called `name` applies itself, if it does."""
    node = weighted(program)[name]
    return None if name in set(written(program)) else next(iter(node.users))


def _is_depthwise(node: fx.Node) -> bool:
    if node.target not in CONVOLUTIONS:
        return False
    groups = groups_of(node)
    channels = int(value_of(node.all_input_nodes[0]).shape[1])
    return groups == channels and channels > 1
