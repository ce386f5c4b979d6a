"""SmoothQuant: what is hard about an activation goes into the weights that read it."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from edgekit.nets.graph import aten
from edgekit.numerics.equalise import equalising_factors
from edgekit.passes.equalise.regions import Region, find_regions, one_but, scaled, site_maxima
from edgekit.passes.equalise.rules import LAYERS
from edgekit.passes.equalise.scaling import scaling
from edgekit.passes.equalise.task import Rewrite, Task, Tensors, channel_maxima

_FUSING = LAYERS | {aten.add.Tensor, aten.add_.Tensor}
_FUSED = frozenset({aten.relu.default, aten.relu_.default})


def smooth(task: Task, tensors: Tensors) -> Rewrite:
    """Scale every channel by max|W|^(1 - alpha) / max|X|^alpha, over the calibration samples.

    W are the weights that read the channel, X the activations that carry it. Norms, layers behind ReLU, the values of
    attention and whole residual streams alike: wherever the factor can be given to what makes the channel.

    Source: Xiao et al., SmoothQuant, arXiv:2211.10438, eq. 4, there for the linear layers behind a norm. Where a
    region has several activations, as a residual stream has, each counts relative to its own largest channel, because
    each has a grid of its own.
    """
    regions = find_regions(task.flow)
    written = {name for node, name in task.program.names.items() if not _inside_a_kernel(node)}
    carried = {name for region in regions for name in region.carriers} & written
    seen = channel_maxima(task, tensors, {name: task.flow.classes[name] for name in carried})
    now = dict(tensors)
    factors = torch.ones(task.flow.count, dtype=torch.float64)
    for region in regions:
        found = [seen[name] for name in region.carriers if name in carried]
        read = site_maxima(now, region.of_role("sink"), task.flow.count)
        change = one_but(region, equalising_factors(_together(region, found), read, task.options.alpha))
        now = scaled(now, region.sites, change)
        factors *= change
    return scaling(task, now, factors)


def _together(region: Region, seen: list[Tensor]) -> Tensor:
    """One range a channel: the largest among activations, each relative to its own largest channel of the region."""
    largest = [maxima[region.classes].max().clamp_min(torch.finfo(torch.float64).tiny) for maxima in seen]
    unit = max(largest)
    return torch.stack([maxima / own * unit for maxima, own in zip(seen, largest, strict=True)]).amax(0)


def _inside_a_kernel(node: fx.Node) -> bool:
    """Whether a runtime hands this value to the activation behind it, in one kernel, without rounding it."""
    return node.target in _FUSING and len(node.users) == 1 and next(iter(node.users)).target in _FUSED
