"""A quantised network in PyTorch, without a convention: what learning and measuring sensitivity run.

Weights stand for what their codes say, activations are rounded to their grids. Which activations a runtime keeps in
integers is for its convention to say; here it is every one that a kernel would write, so a convolution and the
activation behind it count as one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx

from edgekit.nets.graph import CONVOLUTIONS, LINEAR, is_weight, tensor_of
from edgekit.nets.movement import MADE
from edgekit.nets.operators import kind_of
from edgekit.nets.program import Program
from edgekit.nets.quantisation import EdgeRange, QuantisationTable
from edgekit.numerics.bias import rounding_shift
from edgekit.numerics.minifloat import round_to_minifloat
from edgekit.numerics.number import Minifloat, find_number, parse_number

_FUSED_BEHIND = frozenset({"conv", "linear", "add"})
_ACTIVATIONS = frozenset({"relu", "clamp"})


def written(program: Program) -> tuple[str, ...]:
    """Names of the activations that kernels write, in order: not what a kernel hands to its own activation.

    Movement that tracing made is not among them: what it moves is on its grid already.
    """
    return tuple(name for node, name in program.names.items() if not _inside_a_kernel(node) and not node.meta.get(MADE))


def weighted(program: Program) -> dict[str, fx.Node]:
    """Activation name -> node of every convolution and linear layer with a stored weight, in order; its last step's."""
    return dict(every_layer(program))


def coded(program: Program, table: QuantisationTable) -> set[str]:
    """Names of the weights that their codes stand for: all but those of layers that are kept in float."""
    layers = weighted(program)
    floats = {program.weight_name(layers[name]) for name in _kept_in_float(table) if name in layers}
    return table.weights.keys() - floats


def every_layer(program: Program) -> list[tuple[str, fx.Node]]:
    """Name and node of every convolution and linear layer with a stored weight; a recurrent network's at every step."""
    return [
        (name, node)
        for node, name in program.names.items()
        if node.op == "call_function" and node.target in CONVOLUTIONS | LINEAR and is_weight(node.args[1])
    ]


def round_to_grid(values: Tensor, edge: EdgeRange) -> Tensor:
    """`values` on the grid of an activation; the gradient passes inside the range (straight-through)."""
    if isinstance(found := find_number(edge.number), Minifloat):
        return round_to_minifloat(values, edge.scale, found)
    number = parse_number(edge.number)
    scaled = values / edge.scale
    rounded = scaled + (scaled.round() - scaled).detach()
    codes = (rounded + edge.zero_point).clamp(number.qmin, number.qmax)
    return (codes - edge.zero_point) * edge.scale


class Simulation(fx.Interpreter):
    """A program with the grids and codes of a table.

    Args:
        edges: activations that are rounded, by name; none: all that kernels write and the table has a grid for.
        weights: weights that are replaced by what their codes stand for, by name; none: all of them.

    Attributes:
        weights: what each of them is replaced by.
        shifts: what the bias of a layer takes back, (C_out,), by the name of its node.
    """

    def __init__(
        self,
        program: Program,
        table: QuantisationTable,
        edges: Collection[str] | None = None,
        weights: Collection[str] | None = None,
    ) -> None:
        super().__init__(program.module)
        chosen = set(written(program) if edges is None else edges) - _kept_in_float(table)
        self._edges = {
            node.name: table.edges[name] for node, name in program.names.items() if name in chosen & table.edges.keys()
        }
        stood_for = coded(program, table)
        self.weights = {
            name: codes.values()
            for name, codes in table.weights.items()
            if name in stood_for and (weights is None or name in weights)
        }
        self.shifts = {
            node.name: shift
            for name, node in every_layer(program)
            if (values := self.weights.get(program.weight_name(node))) is not None
            and (shift := bias_shift(program, table, name, node, values)) is not None
        }

    def run_node(self, n: fx.Node) -> Any:
        """The node's value, its bias corrected, on its grid if it has one."""
        value = super().run_node(n)
        if (shift := self.shifts.get(n.name)) is not None:
            value = value - along_channels(shift, n)
        edge = self._edges.get(n.name)
        return value if edge is None else self.on_grid(n, value, edge)

    def on_grid(self, node: fx.Node, value: Tensor, edge: EdgeRange) -> Tensor:
        """The value of a node that has a grid, on it."""
        return round_to_grid(value, edge)

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A stored tensor, or what its codes stand for."""
        replaced = self.weights.get(str(target))
        return super().get_attr(target, args, kwargs) if replaced is None else replaced


def simulate(simulation: Simulation, inputs: Tensor, batch: int) -> Tensor:
    """The first output of a one-input program for inputs (N, ...), N a multiple of the program's batch."""
    with torch.no_grad():
        found = [simulation.run(inputs[i : i + batch]) for i in range(0, len(inputs), batch)]
    return torch.cat([out[0] if isinstance(out, tuple | list) else out for out in found])


def bias_shift(program: Program, table: QuantisationTable, name: str, node: fx.Node, values: Tensor) -> Tensor | None:
    """What the bias of a layer takes back, (C_out,): the table's shift, else what its mean gives; None for neither.

    Args:
        values: what stands for the layer's weight.
    """
    if takes_back_mean(table, name, node):
        return rounding_shift(values - tensor_of(program.module, node.args[1]), table.means[name])  # type: ignore[arg-type]
    return table.shifts.get(name) if has_bias(node) else None


def takes_back_mean(table: QuantisationTable, name: str, node: fx.Node) -> bool:
    """Whether the bias of a layer takes back what rounding its weight shifts at the mean of its inputs."""
    return has_bias(node) and name in table.means and name not in table.shifts


def has_bias(node: fx.Node) -> bool:
    """Whether a layer adds a stored tensor to its outputs."""
    return len(node.args) > 2 and is_weight(node.args[2])


def along_channels(values: Tensor, node: fx.Node) -> Tensor:
    """(C_out,) in a shape that broadcasts with the output of a convolution or linear node."""
    return values if node.target in LINEAR else values.reshape(-1, *[1] * (node.meta["val"].dim() - 2))


def _kept_in_float(table: QuantisationTable) -> set[str]:
    return {name for name, kept in table.kept.items() if kept.number == "float"}


def _inside_a_kernel(node: fx.Node) -> bool:
    return kind_of(node) in _FUSED_BEHIND and len(node.users) == 1 and kind_of(next(iter(node.users))) in _ACTIVATIONS
