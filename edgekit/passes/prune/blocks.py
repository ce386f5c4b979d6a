"""Whole blocks and layers that a network can do without: what takes and gives one tensor of the same shape."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.nets.count import count_params
from edgekit.nets.edits import Replace, apply_edits
from edgekit.nets.model import Model

logger = logging.getLogger(__name__)
_CONTAINERS = (nn.ModuleList, nn.ModuleDict)


@dataclass
class _Seen:
    calls: int = 0
    alike: bool = True


def find_blocks(model: Model) -> tuple[str, ...]:
    """Names, in order of definition, of the modules with parameters that may give what they are given.

    Each is called once in a run, and gives one tensor of the shape and type of its first argument: a residual block
    between two that change the shape, a layer of a transformer, a convolution that keeps its channels. A residual block
    that gives its input is the same as one whose branch gives zero, where the input went through a ReLU before.
    A single layer inside of a block is not named, nor is what the network does not run without.
    """
    seen: dict[str, _Seen] = {}
    network = model.network
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        def look(_module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            found = seen.setdefault(name, _Seen())
            found.calls += 1
            found.alike &= bool(args) and _alike(args[0], output)

        handles.append(module.register_forward_hook(look))

    for name, module in network.named_modules():
        if name and not isinstance(module, _CONTAINERS) and count_params(module):
            watch(name, module)
    try:
        with torch.no_grad():
            network(*model.example(batch=2))
    finally:
        for handle in handles:
            handle.remove()
    alike = [name for name, found in seen.items() if found.calls == 1 and found.alike]
    blocks = [name for name in alike if next(network.get_submodule(name).children(), None) is not None]
    named = (name for name in alike if name in blocks or not any(name.startswith(f"{own}.") for own in blocks))
    return tuple(name for name in named if _runs_without(model, name))


def _runs_without(model: Model, name: str) -> bool:
    """nn.TransformerEncoder asks its first layer for its attention, whether that is called or not."""
    network = apply_edits(model.network, [Replace(layer=name, by="skip")])
    try:
        with torch.no_grad():
            network(*model.example(batch=2))
    except Exception:  # the network is the user's code
        logger.info("prune: %s stays: the network does not run without it", name)
        return False
    return True


def _alike(given: Any, made: Any) -> bool:
    both = isinstance(given, Tensor) and isinstance(made, Tensor)
    return both and given.shape == made.shape and given.dtype == made.dtype
