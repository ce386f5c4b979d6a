"""Regions: channels that meet, with every stored tensor that makes, reads or shifts them. And scaling them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekit.numerics.equalise import class_maxima
from edgekit.passes.equalise.channels import Channels, members
from edgekit.passes.equalise.flow import Flow, Role, Site

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Region:
    """Channels that occur together in some activation, and may be scaled.

    Attributes:
        classes: (K,) ascending.
        sites: that touch any of them, in execution order.
        carriers: names of the activations that they occur in, in execution order.
    """

    classes: Tensor
    sites: tuple[Site, ...]
    carriers: tuple[str, ...]

    def of_role(self, role: Role) -> tuple[Site, ...]:
        """Sites of one role."""
        return tuple(site for site in self.sites if site.role == role)


def find_regions(flow: Flow) -> tuple[Region, ...]:
    """Regions in execution order; a channel that nothing makes or nothing reads is in none."""
    touched: dict[Role, set[int]] = {"source": set(), "sink": set(), "offset": set()}
    of_sites = [torch.tensor(members(site.classes), dtype=torch.int64) for site in flow.sites]
    for site, classes in zip(flow.sites, of_sites, strict=True):
        touched[site.role].update(classes.tolist())
    free = torch.zeros(flow.count + 1, dtype=torch.bool)
    free[[one for one in touched["source"] & touched["sink"] if one not in flow.reasons]] = True
    together = Channels()
    together.new(flow.count)
    carried = {name: torch.tensor(members(classes), dtype=torch.int64) for name, classes in flow.classes.items()}
    for classes in [*carried.values(), *of_sites]:
        inside = classes[free[classes]]
        together.join(inside[:-1], inside[1:])
    group = together.roots()
    found = []
    for root in members(group[free]):
        inside = (group == root) & free
        sites = tuple(s for s, classes in zip(flow.sites, of_sites, strict=True) if bool(inside[classes].any()))
        carriers = tuple(name for name, classes in carried.items() if bool(inside[classes].any()))
        found.append(Region(inside.nonzero().flatten(), sites, carriers))
    order = {site.layer: index for index, site in reversed([*enumerate(flow.sites)])}
    return tuple(sorted(found, key=lambda region: order[region.of_role("sink")[0].layer]))


def site_maxima(tensors: Tensors, sites: Iterable[Site], count: int) -> Tensor:
    """(count,) float64: the largest magnitude that each class has in the tensors of `sites`."""
    maxima = torch.zeros(count, dtype=torch.float64)
    for site in sites:
        tensor = tensors[site.tensor]
        maxima = torch.maximum(maxima, class_maxima(tensor, site.classes.reshape(tensor.shape), count))
    return maxima


def scaled(tensors: Tensors, sites: Iterable[Site], factors: Tensor) -> dict[str, Tensor]:
    """`tensors` with every channel multiplied by its factor where it is made and divided by it where it is read.

    Args:
        factors: (number of classes,), 1 for what stays.
    """
    new = dict(tensors)
    for site in sites:
        tensor = new[site.tensor]
        factor = factors[site.classes.reshape(tensor.shape)]
        new[site.tensor] = tensor / factor if site.role == "sink" else tensor * factor
    return new


def one_but(region: Region, factors: Tensor) -> Tensor:
    """`factors` on the channels of a region, 1 elsewhere."""
    kept = torch.ones_like(factors)
    kept[region.classes] = factors[region.classes]
    return kept
