"""Bias absorption: what a channel never falls below goes through its ReLU into the biases behind it."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.nets.graph import aten
from edgekit.passes.equalise.direct import bias_of, constant_read, why_not_direct
from edgekit.passes.equalise.regions import Region, find_regions
from edgekit.passes.equalise.task import Rewrite, Run, Task, Tensors, one_by_one
from edgekit.passes.equality import doubled

_RELUS = frozenset({aten.relu.default, aten.relu_.default})


def absorb_bias(task: Task, tensors: Tensors) -> Rewrite:
    """Take off each channel what its layer's output never fell below, and give it to the biases of its readers.

    relu(y) = relu(y - c) + c for y >= c only. So where there is a ReLU in between, the function is the same for inputs
    that stay above what the calibration samples showed, and not for others: `always` says so. Readers that pad
    with zeros are left, because at the border the constant is missing.

    Source: Nagel et al., Data-Free Quantization, arXiv:1906.04721, section 4.1.3, which takes mean - 3 deviations from
    the batch norm for the lowest value; here it is the lowest one that was seen.
    """
    nodes = {name: node for node, name in task.program.names.items()}
    regions, left = [], {}
    for region in find_regions(task.flow):
        maker = region.of_role("source")[0].layer
        reason = why_not_direct(task, region, _RELUS)
        if reason is None and bias_of(nodes[maker]) is None:
            reason = "it has no bias"
        if reason is None:
            regions.append(region)
        else:
            left[maker] = reason
    lowest = _lowest(task, tensors, regions)
    now, shifted = dict(tensors), dict[str, Tensor | None]()
    always = True
    for region in regions:
        constants = torch.zeros(task.flow.count, dtype=torch.float64)
        constants[region.classes] = lowest[region.classes].clamp_min(0)
        if not bool(constants.any()):
            continue
        for site in region.of_role("offset"):
            now[site.tensor] = now[site.tensor] - constants[site.classes]
        for site in region.of_role("sink"):
            bias = bias_of(nodes[site.layer])
            assert bias is not None
            now[bias] = now[bias] + constant_read(now[site.tensor], site, constants)
        shifted |= dict.fromkeys(region.carriers)
        always = always and not any(nodes[name].target in _RELUS for name in region.carriers)
    return Rewrite(now, shifted, left, always)


def _lowest(task: Task, tensors: Tensors, regions: list[Region]) -> Tensor:
    """(number of classes,) the smallest value that the makers of `regions` gave each class."""
    makers = {region.of_role("source")[0].layer for region in regions}
    lowest = torch.full((task.flow.count,), torch.inf, dtype=torch.float64)

    def see(name: str, value: Tensor) -> None:
        if name in makers:
            classes = task.flow.classes[name].flatten()
            lowest.scatter_reduce_(0, classes, value.flatten(), "amin")

    with torch.no_grad():
        run = Run(task.program, tensors, see, torch.float64)
        for inputs in one_by_one(task.samples()):
            run.run(*doubled(inputs))
    return lowest
