"""Cross-layer equalisation: every channel is made and read by weights of the same range."""

from __future__ import annotations

import torch

from edgekit.numerics.equalise import equalising_factors
from edgekit.passes.equalise.regions import Region, find_regions, one_but, scaled, site_maxima
from edgekit.passes.equalise.scaling import scaling
from edgekit.passes.equalise.task import Rewrite, Task, Tensors

_SWEEPS = 20
_SETTLED = 1e-4


def cross_layer(task: Task, tensors: Tensors) -> Rewrite:
    """Equalise all regions whose channels are made and read by layers, in turn until nothing changes.

    Branches that meet in an addition share their factors; a depthwise convolution ends one region and begins the next.
    Channels that a norm's gain makes are left: a gain has no range to balance with.

    Source: Nagel et al., Data-Free Quantization, arXiv:1906.04721, section 4.1; regions as in Pappalardo et al.,
    Brevitas. Biases do not count as ranges.
    """
    found = find_regions(task.flow)
    regions = [region for region in found if _of_layers(region, tensors)]
    factors = torch.ones(task.flow.count, dtype=torch.float64)
    now = dict(tensors)
    for _ in range(_SWEEPS):
        worst = 0.0
        for region in regions:
            made = site_maxima(now, region.of_role("source"), task.flow.count)
            read = site_maxima(now, region.of_role("sink"), task.flow.count)
            change = one_but(region, equalising_factors(made, read))
            now = scaled(now, region.sites, change)
            factors *= change
            worst = max(worst, (change - 1).abs().max().item())
        if worst < _SETTLED:
            break
    gains = {
        site.layer: "a gain makes or reads its channels; smooth balances those"
        for region in found
        if not _of_layers(region, tensors)
        for site in region.of_role("source")
    }
    return scaling(task, now, factors, gains)


def _of_layers(region: Region, tensors: Tensors) -> bool:
    return all(tensors[site.tensor].dim() > 1 for site in (*region.of_role("source"), *region.of_role("sink")))
