"""A program run piece by piece over all calibration samples: what every method that goes layer by layer stands on.

Only what later pieces read is kept, so memory is that of the samples at one place of the network. What a layer inside a
piece is given is computed anew from there whenever it is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, fx

from edgekit.nets.program import Program, trace
from edgekit.nets.quantisation import QuantisationTable
from edgekit.passes.quantize.batches import batch_size
from edgekit.passes.quantize.simulate import Simulation
from edgekit.passes.quantize.task import Task

Inputs: TypeAlias = tuple[Tensor, ...]

MOST_SAMPLES = 1024  # what the published methods learn from


def traced_batches(task: Task, largest: int | None = None) -> tuple[Program, list[Inputs]]:
    """The calibration inputs in equal batches, and the network's program at that batch.

    At most 1,024 samples; those that would fill no batch are left out, fewer than there are batches.

    Args:
        largest: batch; none: as many as run fast.
    """
    samples = task.samples.head(MOST_SAMPLES)
    largest = largest or batch_size(samples.inputs)
    count = -(-len(samples) // largest)
    batch = len(samples) // count
    return trace(task.model, batch), [samples.batch(i * batch, (i + 1) * batch) for i in range(count)]


def operators(program: Program) -> list[fx.Node]:
    """The nodes that have a value of their own for each sample, in order: inputs and operators."""
    return [node for node in program.module.graph.nodes if node.op in ("placeholder", "call_function")]


def evaluate(interpreter: fx.Interpreter, nodes: Iterable[fx.Node], known: Mapping[fx.Node, Any]) -> dict[fx.Node, Any]:
    """Values of `nodes`, which are in order, and of all `known`; stored tensors are read as they are now."""
    interpreter.env = dict(known)
    for node in nodes:
        for source in node.all_input_nodes:
            if source.op == "get_attr":
                interpreter.env[source] = interpreter.run_node(source)
        interpreter.env[node] = interpreter.run_node(node)
    return interpreter.env


class Stream:
    """The values of a program, as far as it has been run.

    Args:
        batches: inputs of the program, each of its own batch.
    """

    def __init__(self, program: Program, batches: list[Inputs]) -> None:
        self._batches, self._left = batches, operators(program)
        self._output = next(node for node in program.module.graph.nodes if node.op == "output")
        self._kept: list[dict[fx.Node, Any]] = [{} for _ in batches]

    def __len__(self) -> int:
        return len(self._batches)

    def values(self, nodes: Collection[fx.Node], interpreter: fx.Interpreter) -> Iterator[dict[fx.Node, Any]]:
        """The values of some nodes, batch by batch; what they need is run for it, and not kept."""
        path = self._path(nodes)
        for index in range(len(self)):
            found = self._evaluate(interpreter, path, index)
            yield {node: found[node] for node in nodes}

    def run(self, nodes: Iterable[fx.Node], interpreter: fx.Interpreter) -> None:
        """Run `nodes`, which are in order, for all samples, and forget what nothing later reads."""
        nodes = list(nodes)
        gone = set(nodes)
        self._left = [node for node in self._left if node not in gone]
        needed = {*self._left, self._output}
        for index in range(len(self)):
            found = self._evaluate(interpreter, nodes, index)
            self._kept[index] = {
                node: value for node, value in found.items() if node.op != "get_attr" and needed & node.users.keys()
            }

    def _evaluate(self, interpreter: fx.Interpreter, nodes: list[fx.Node], index: int) -> dict[fx.Node, Any]:
        interpreter.args_iter = cast(Iterator[Any], iter(self._batches[index]))
        with torch.no_grad():
            return evaluate(interpreter, nodes, self._kept[index])

    def _path(self, nodes: Collection[fx.Node]) -> list[fx.Node]:
        """What is still to be run for `nodes`, in order."""
        left, asked = set(self._left), list(nodes)
        found: set[fx.Node] = set()
        while asked:
            node = asked.pop()
            if node in left and node not in found:
                found.add(node)
                asked += node.all_input_nodes
        return [node for node in self._left if node in found]


@dataclass(frozen=True)
class Prefix:
    """A network up to some place, in float and as it is rounded so far.

    Attributes:
        exact, rounded: the two, each up to the same place.
        generator: of all that is drawn at random.
        decided: names of weights that are rounded; one that several layers share is rounded for the first of them.
    """

    program: Program
    exact: Stream
    rounded: Stream
    generator: torch.Generator
    decided: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, task: Task, batch: int | None = None) -> Prefix:
        """Nothing of the network yet."""
        program, batches = traced_batches(task, batch)
        generator = torch.Generator().manual_seed(task.context.seed)
        return cls(program, Stream(program, batches), Stream(program, batches), generator)

    def floating(self, table: QuantisationTable) -> Simulation:
        """The float network."""
        return Simulation(self.program, table, (), ())

    def run(self, nodes: Collection[fx.Node], table: QuantisationTable) -> None:
        """Run both through `nodes`, with the codes of `table`."""
        self.exact.run(nodes, self.floating(table))
        self.rounded.run(nodes, Simulation(self.program, table))
