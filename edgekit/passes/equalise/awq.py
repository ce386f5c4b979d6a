"""AWQ: inputs that matter get more of the grid of a weight that is rounded in groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from edgekit.nets.graph import is_weight
from edgekit.nets.operators import activations
from edgekit.numerics.number import parse_number
from edgekit.numerics.smooth import RATIOS, awq_factors, class_means, rounded_in_groups
from edgekit.passes.equalise.flow import Site
from edgekit.passes.equalise.regions import Region, find_regions, scaled
from edgekit.passes.equalise.rules import LAYERS
from edgekit.passes.equalise.scaling import scaling
from edgekit.passes.equalise.task import Rewrite, Run, Task, Tensors, one_by_one


def awq(task: Task, tensors: Tensors) -> Rewrite:
    """Scale the inputs of weights by mean|X|^ratio, at the ratio that loses least once the weights are rounded.

    For each region whose channels are read from one activation, 20 ratios from 0 to 0.95 are tried on the calibration
    samples. The loss is that of the module around the layers that read it: the first activation through which
    all that they make must pass, which is attention as a whole for its projections, else the layer itself.

    Source: Lin et al., AWQ, arXiv:2306.00978, section 3.2, with the search of its code.
    """
    nodes = {name: node for node, name in task.program.names.items()}
    now = dict(tensors)
    factors = torch.ones(task.flow.count, dtype=torch.float64)
    left: dict[str, str] = {}
    for region in find_regions(task.flow):
        sinks = region.of_role("sink")
        readers = list(dict.fromkeys(nodes[site.layer] for site in sinks))
        inputs = {activations(reader)[0] for reader in readers}
        if len(inputs) != 1 or not all(reader.target in LAYERS for reader in readers):
            reason = "its channels are read in several places, or by no layer"
            left |= dict.fromkeys((site.layer for site in region.of_role("source")), reason)
            continue
        change = _search(task, now, region, readers, next(iter(inputs)))
        now = scaled(now, region.sites, change)
        factors *= change
    return scaling(task, now, factors, left)


@dataclass(frozen=True)
class _Module:
    """The part of a program between the layers that read a region and the activation where they meet.

    Attributes:
        nodes: in execution order; the last one makes the module's output.
        given: for each sample, the values that come in from outside.
        wanted: for each sample, the output.
    """

    nodes: tuple[fx.Node, ...]
    given: list[dict[fx.Node, Tensor]]
    wanted: list[Tensor]

    def loss(self, stored: Tensors) -> float:
        """Squared error of the output over all samples with these stored tensors."""
        total = 0.0
        for given, wanted in zip(self.given, self.wanted, strict=True):
            values: dict[fx.Node, Any] = dict(given)

            def value(node: fx.Node, values: dict[fx.Node, Any] = values) -> Any:
                return stored[str(node.target)] if is_weight(node) else values[node]

            for node in self.nodes:
                assert callable(node.target)
                values[node] = node.target(*fx.map_arg(node.args, value), **fx.map_arg(node.kwargs, value))
            found = values[self.nodes[-1]]
            assert isinstance(found, Tensor)
            total += (found - wanted).double().square().sum().item()
        return total


def _search(task: Task, tensors: Tensors, region: Region, readers: Sequence[fx.Node], source: fx.Node) -> Tensor:
    """(number of classes,) what the channels of `region` are to be multiplied by."""
    ones = torch.ones(task.flow.count, dtype=torch.float64)
    module, magnitude = _record(task, tensors, readers, source)
    stored = {name: tensor.float() for name, tensor in tensors.items()}
    best, least = ones, torch.inf
    for ratio in RATIOS:
        factors = ones.clone()
        factors[region.classes] = 1 / awq_factors(magnitude[region.classes], ratio)
        candidate = {**stored, **_rounded(task, tensors, region.of_role("sink"), factors)}
        if (loss := module.loss(candidate)) < least:
            best, least = factors, loss
    return best


def _rounded(task: Task, tensors: Tensors, sinks: Sequence[Site], factors: Tensor) -> dict[str, Tensor]:
    """Weights that were multiplied by 1 / factor, rounded, and multiplied by the factor again."""
    scaled_up = scaled(tensors, sinks, factors)
    qmax = parse_number(task.options.weights).qmax
    found = {}
    for site in sinks:
        rounded = rounded_in_groups(scaled_up[site.tensor], task.options.group_size, qmax)
        found[site.tensor] = (rounded * factors[site.classes]).float()
    return found


def _record(task: Task, tensors: Tensors, readers: Sequence[fx.Node], source: fx.Node) -> tuple[_Module, Tensor]:
    """The module around `readers`, and the mean magnitude of each class in what they read."""
    nodes = _between(task.program.module, readers)
    inside = set(nodes)
    outside = {n for node in nodes for n in node.all_input_nodes if n not in inside and not is_weight(n)}
    names = {task.program.names[node]: node for node in outside}
    output = task.program.names[nodes[-1]]
    given: list[dict[fx.Node, Tensor]] = []
    wanted: list[Tensor] = []
    sums = torch.zeros(task.flow.count, dtype=torch.float64)

    def see(name: str, value: Tensor) -> None:
        if name in names:
            given[-1][names[name]] = value
        if name == output:
            wanted.append(value)

    run, samples = Run(task.program, tensors, see), task.samples()
    with torch.no_grad():
        for inputs in one_by_one(samples):
            given.append({})
            run.run(*inputs)
            sums += class_means(given[-1][source], task.flow.classes[task.program.names[source]], task.flow.count)
    return _Module(nodes, given, wanted), sums / len(samples)


def _between(module: fx.GraphModule, readers: Sequence[fx.Node]) -> tuple[fx.Node, ...]:
    """`readers` and what follows them, up to the first activation that all of it must pass."""
    inside: list[fx.Node] = []
    waiting: dict[fx.Node, int] = {}  # made inside -> how many have yet to read it
    missing = set(readers)
    for node in module.graph.nodes:
        if node.op == "output":
            break
        if node not in missing and not any(source in waiting for source in node.all_input_nodes):
            continue
        missing.discard(node)
        for source in node.all_input_nodes:
            if source in waiting:
                waiting[source] -= 1
        inside.append(node)
        waiting[node] = len(node.users)
        if not missing and [made for made, count in waiting.items() if count] == [node]:
            return tuple(inside)
    return tuple(inside)
