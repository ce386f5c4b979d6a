"""The graph of one step, repeated for every step of a sequence: weights once, activations under the step's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import fx

from edgekit.nets.graph import aten, set_tensor, tensor_of, value_of
from edgekit.nets.model import Model


def share_state_names(
    module: fx.GraphModule, names: dict[fx.Node, str], states: Mapping[str, str], model: Model
) -> None:
    """A state that a step takes is called as the operator that makes the next one: both are one edge, on one grid.

    Args:
        states: output -> input of `model`.
    """
    placeholders = (node for node in module.graph.nodes if node.op == "placeholder")
    given = dict(zip((spec.name for spec in model.inputs), placeholders, strict=True))
    made = dict(zip((spec.name for spec in model.outputs), _outputs(module), strict=True))
    for following, state in states.items():
        names[given[state]] = names[made[following]]


def unroll(module: fx.GraphModule, names: dict[fx.Node, str], steps: int) -> tuple[fx.GraphModule, dict[fx.Node, str]]:
    """The graph of a whole sequence (N, T, C) from that of one step; it gives the answer after the last step.

    States are zeros before the first step. What it computes from stored tensors alone, or as a product with zeros, is
    stored, batch first; so no operator reads stored tensors only.

    Args:
        module: takes (N, C) and the states, gives the answer and the next states.
        names: of its activations.
        steps: T.

    Returns:
        The graph, and the names of its activations: those of the step, each once for every step.
    """
    old = list(module.graph.nodes)
    x, *states = (node for node in old if node.op == "placeholder")
    answer, *following = _outputs(module)
    new = _Copy(module, names)
    batch, width = value_of(x).shape
    sequence = new.graph.placeholder(str(x.target))
    new.add(sequence, x, torch.empty(batch, steps, width))
    flat = new.graph.call_function(aten.reshape.default, (sequence, [batch, steps * width]))
    new.add(flat, x, torch.empty(batch, steps * width))
    current = [new.constant(state, torch.zeros(value_of(state).shape)) for state in states]
    values: dict[fx.Node, fx.Node] = {}
    for t in range(steps):
        part = new.graph.call_function(aten.slice.Tensor, (flat, 1, t * width, (t + 1) * width))
        new.add(part, x, torch.empty(batch, width))
        values |= dict(zip([x, *states], [part, *current], strict=True))
        for node in old:
            if node.op == "call_function" or (node.op == "get_attr" and node not in values):
                values[node] = new.copy(node, values)
        current = [values[node] for node in following]
    new.graph.output((values[answer],))
    new.graph.eliminate_dead_code()
    made = fx.GraphModule(module, new.graph)
    return made, {node: new.names[node] for node in made.graph.nodes if node in new.names}


def _outputs(module: fx.GraphModule) -> list[fx.Node]:
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    return list(cast(tuple[fx.Node, ...], output.args[0]))


class _Copy:
    """The graph that is being made, with the names of its nodes and the values of those that are constant."""

    def __init__(self, module: fx.GraphModule, names: dict[fx.Node, str]) -> None:
        self.graph = fx.Graph()
        self.names: dict[fx.Node, str] = {}
        self._module, self._names = module, names
        self._constants: dict[fx.Node, torch.Tensor] = {}
        self._initial: set[fx.Node] = set()  # constants that come from the first states, not from the network

    def add(self, node: fx.Node, old: fx.Node, value: torch.Tensor) -> None:
        """Name `node` as `old`, and say what it is like."""
        node.meta = {**old.meta, "val": value}
        self.names[node] = self._names[old]

    def constant(self, old: fx.Node, value: torch.Tensor) -> fx.Node:
        """A stored tensor in place of what `old` makes."""
        name = f"initial.{old.name}"
        set_tensor(self._module, name, value)
        node = self.graph.get_attr(name)
        self.add(node, old, value)
        self._constants[node] = value
        self._initial.add(node)
        return node

    def copy(self, old: fx.Node, values: dict[fx.Node, fx.Node]) -> fx.Node:
        """`old` with what `values` has for its arguments."""
        if old.op == "get_attr":
            node = self.graph.node_copy(old)
            self._constants[node] = tensor_of(self._module, old)
            return node
        sources = [values[source] for source in old.all_input_nodes]
        initial = [self._constants[source] for source in sources if source in self._initial]
        if initial and all(source in self._constants for source in sources):
            stored = {source: self._constants[values[source]] for source in old.all_input_nodes}
            args, kwargs = cast(Any, fx.map_arg((old.args, old.kwargs), stored.__getitem__))
            with torch.no_grad():
                return self.constant(old, cast(Callable[..., torch.Tensor], old.target)(*args, **kwargs))
        if old.target is aten.mul.Tensor and not all(bool(tensor.any()) for tensor in initial):
            return self.constant(old, torch.zeros(value_of(old).shape))
        node = self.graph.node_copy(old, lambda n: values[n])
        self.add(node, old, value_of(old))
        return node
