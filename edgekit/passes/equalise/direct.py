"""Regions whose channels reach their readers as they are: a constant on a channel can go into the readers' biases."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor, fx

from edgekit.nets.graph import aten, is_weight, tensor_of
from edgekit.passes.equalise.flow import Site
from edgekit.passes.equalise.regions import Region
from edgekit.passes.equalise.rules import LAYERS, MOVES
from edgekit.passes.equalise.task import Task

_KEEPS_CONSTANTS = MOVES | {aten.mean.dim, aten.dropout.default, aten.dropout_.default}


def why_not_direct(task: Task, region: Region, through: Collection[Any] = (), *, constants: bool = True) -> str | None:
    """Why what is taken off a region's channels cannot be given to the layers that read them; else None.

    Args:
        through: operators that may stand in between, besides data movement.
        constants: constants are to be moved into biases; else only factors into weights.
    """
    nodes = {name: node for node, name in task.program.names.items()}
    makers = {site.layer for site in region.of_role("source")}
    readers = [nodes[layer] for layer in dict.fromkeys(site.layer for site in region.of_role("sink"))]
    if len(makers) != 1:
        return "several layers make its channels"
    for name in region.carriers:
        if name not in makers and nodes[name].target not in _KEEPS_CONSTANTS and nodes[name].target not in through:
            return f"{name} does not hand a constant on"
    for reader in readers:
        if reader.target not in LAYERS:
            return f"{task.program.names[reader]} reads it, which is no layer"
        if constants and bias_of(reader) is None:
            return f"{task.program.names[reader]} reads it, which has no bias"
        if constants and _pads(task, reader):
            return f"{task.program.names[reader]} pads it with zeros, which know nothing of the constant"
    return None


def bias_of(layer: fx.Node) -> str | None:
    """Name of the stored bias of a layer."""
    bias = layer.args[2] if len(layer.args) > 2 else layer.kwargs.get("bias")
    return str(bias.target) if isinstance(bias, fx.Node) and is_weight(bias) else None


def constant_read(weight: Tensor, site: Site, constants: Tensor) -> Tensor:
    """(C_out,) what a layer makes of a constant on each channel that it reads.

    Args:
        site: where the weight reads the channels.
        constants: (number of classes,), 0 for what is not shifted.
    """
    return (weight * constants[site.classes.reshape(weight.shape)]).flatten(1).sum(1)


def _pads(task: Task, layer: fx.Node) -> bool:
    if layer.target is aten.linear.default:
        return False
    padding = layer.args[4] if len(layer.args) > 4 else layer.kwargs.get("padding", 0)
    if isinstance(padding, str):
        weight = layer.args[1]
        assert isinstance(weight, fx.Node)
        return padding != "valid" and tensor_of(task.program.module, weight).shape[2:].numel() > 1
    return any(padding) if isinstance(padding, list | tuple) else bool(padding)
