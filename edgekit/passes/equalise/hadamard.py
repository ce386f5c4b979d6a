"""Hadamard rotation: channels are mixed evenly, so that no single one holds the outliers. Only where it is exact.

A rotation is done to weights alone: what makes a set of channels is rotated, what reads it is rotated back. So it must
pass everything in between: data movement, additions, attention weights, norms without a gain. Nothing is left to be
done when the network runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekit.errors import ShapeError
from edgekit.numerics.hadamard import mean_keeping_rotation, random_rotation
from edgekit.passes.equalise.channels import members
from edgekit.passes.equalise.direct import bias_of, constant_read, why_not_direct
from edgekit.passes.equalise.flow import Flow, Norm, Site, follow
from edgekit.passes.equalise.regions import Region, find_regions
from edgekit.passes.equalise.rules import RULES
from edgekit.passes.equalise.task import Rewrite, Task, Tensors


@dataclass(frozen=True)
class _Lines:
    """Where a stored tensor holds a set of channels: along `axis`, at these places, in the order of the set."""

    axis: int
    places: Tensor


def hadamard(task: Task, tensors: Tensors) -> Rewrite:
    """Rotate every set of channels that may be mixed: residual streams, values of each head, layer behind layer.

    Gains and shifts of the norms on a stream go into the layers that read them first. A stream with a layer norm gets
    a rotation that keeps the mean of a token, one with RMS norms a plain one.

    Source: Ashkboos et al., QuaRot, arXiv:2404.00456, sections 4.1 and 4.2, without the rotations at run time. There
    a layer norm becomes an RMS norm; here the rotation is chosen so that it need not.
    """
    flow = follow(task.program, task.model.network, RULES, rotates=True)
    generator = torch.Generator().manual_seed(task.context.seed)
    gains = _regions_of_norms(task)
    now, left = dict(tensors), _blocked(flow)
    touched: dict[str, Tensor | None] = {}
    for channels in _sets(flow):
        chosen = set(channels.tolist())
        sites = [site for site in flow.sites if not chosen.isdisjoint(members(site.classes))]
        norms = [norm for norm in flow.norms if not chosen.isdisjoint(members(norm.classes))]
        makers = [site.layer for site in sites if site.role == "source"]
        lines = [_find_lines(site.classes.reshape(now[site.tensor].shape), channels) for site in sites]
        reason = _why_not(task, channels, sites, lines, norms, gains)
        order = len(channels)
        try:
            rotation = (mean_keeping_rotation if any(norm.centred for norm in norms) else random_rotation)(
                order, generator
            )
        except ShapeError as err:
            reason = reason or err.what
        if reason is not None:
            left |= dict.fromkeys(makers, reason)
            continue
        for norm in norms:
            if norm.gain is not None:
                now = _fold_gain(task, now, gains[norm.layer], norm)
                touched |= dict.fromkeys(gains[norm.layer].carriers)
        for site, line in zip(sites, lines, strict=True):
            assert line is not None
            now[site.tensor] = _rotated(now[site.tensor], line, rotation)
        rotated = (name for name, classes in flow.classes.items() if not chosen.isdisjoint(members(classes)))
        touched |= dict.fromkeys(rotated)
    return Rewrite(now, touched, left)


def _blocked(flow: Flow) -> dict[str, str]:
    return {
        site.layer: flow.reasons[one]
        for site in flow.sites
        if site.role == "source"
        for one in members(site.classes)
        if one in flow.reasons
    }


def _sets(flow: Flow) -> list[Tensor]:
    """Channels that occur together wherever they occur, each set in ascending order. A channel alone is in none."""
    cells = [*flow.classes.values(), *(site.classes for site in flow.sites), *flow.cells]
    inside: dict[int, list[int]] = {}
    for index, cell in enumerate(cells):
        for one in members(cell):
            inside.setdefault(one, []).append(index)
    read = {one for site in flow.sites if site.role == "sink" for one in members(site.classes)}
    together: dict[tuple[int, ...], list[int]] = {}
    for one in sorted(read):
        if one not in flow.reasons:
            together.setdefault(tuple(inside[one]), []).append(one)
    return [torch.tensor(members) for members in together.values() if len(members) > 1]


def _why_not(
    task: Task,
    channels: Tensor,
    sites: Iterable[Site],
    lines: Iterable[_Lines | None],
    norms: Iterable[Norm],
    gains: Mapping[str, Region],
) -> str | None:
    for site, line in zip(sites, lines, strict=True):
        if line is None:
            return f"{site.tensor} holds its channels in no single order"
    for norm in norms:
        if not torch.equal(norm.classes.sort().values, channels):
            return f"{norm.layer} normalises other channels with them"
        if norm.gain is None:
            continue
        if norm.layer not in gains:
            return f"the gain of {norm.layer} is shared, or read by no layer"
        reason = why_not_direct(task, gains[norm.layer], constants=norm.shift is not None)
        if reason is not None:
            return f"the gain of {norm.layer} cannot be folded: {reason}"
    return None


def _regions_of_norms(task: Task) -> dict[str, Region]:
    """Layer of a norm -> the region of the channels that its gain makes, where it makes all of them."""
    found = {}
    for region in find_regions(task.flow):
        for site in region.of_role("source"):
            if members(site.classes) == region.classes.tolist():
                found[site.layer] = region
    return found


def _fold_gain(task: Task, tensors: Tensors, region: Region, norm: Norm) -> dict[str, Tensor]:
    """`tensors` with the gain and shift of a norm in the layers that read it, and 1 and 0 in their place."""
    nodes = {name: node for node, name in task.program.names.items()}
    new = dict(tensors)
    assert norm.gain is not None
    (source,) = region.of_role("source")
    gains, shifts = torch.ones(task.flow.count).double(), torch.zeros(task.flow.count).double()
    gains[source.classes] = tensors[norm.gain]
    for site in region.of_role("sink"):
        weight = new[site.tensor]
        if norm.shift is not None:
            bias = bias_of(nodes[site.layer])
            assert bias is not None
            shifts[source.classes] = tensors[norm.shift]
            new[bias] = new[bias] + constant_read(weight, site, shifts)
            new[norm.shift] = torch.zeros_like(tensors[norm.shift])
        new[site.tensor] = weight * gains[site.classes]
    new[norm.gain] = torch.ones_like(tensors[norm.gain])
    return new


def _find_lines(classes: Tensor, channels: Tensor) -> _Lines | None:
    """Where `channels` lie in a tensor: once each along one axis, at the same places in every line of it, or None."""
    count = len(channels)
    for axis in range(classes.dim()):
        lines = classes.movedim(axis, -1).reshape(-1, classes.shape[axis])
        places = torch.isin(lines[0], channels).nonzero().flatten()
        if len(places) != count:
            continue
        held = lines[:, places]
        if not bool((held == held[:1]).all()) or int(torch.isin(lines, channels).sum()) != held.numel():
            continue
        order = held[0].argsort()
        if torch.equal(held[0][order], channels):
            return _Lines(axis, places[order])
    return None


def _rotated(tensor: Tensor, line: _Lines, rotation: Tensor) -> Tensor:
    """Source, offset and sink alike: y = W x = (W R^T) (R x), and column j of W R^T is the sum of R[j, i] W[:, i]."""
    moved = tensor.movedim(line.axis, -1).clone()
    moved[..., line.places] = moved[..., line.places] @ rotation.T
    return moved.movedim(-1, line.axis)
