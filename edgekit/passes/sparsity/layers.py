"""Which weights of a network may become zero, and why the others stay dense."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgekit.errors import PassError
from edgekit.nets.steps import OverTime
from edgekit.numerics.sparsity import GROUP
from edgekit.schema.find import suggest
from edgekit.schema.sparsity import SparsityOptions

_Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
_Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
_NO_PRODUCT = nn.Embedding | nn.EmbeddingBag | nn.LayerNorm | nn.RMSNorm | nn.GroupNorm


@dataclass(frozen=True)
class Prunable:
    """Weights that may become zero, and the others.

    Attributes:
        weights: by their first name in the network: a weight that several layers share has one mask.
        dense: name -> why it stays dense, of all other weights of layers.
    """

    weights: dict[str, nn.Parameter]
    dense: dict[str, str]


def find_prunable(network: nn.Module, options: SparsityOptions, inputs: tuple[Tensor, ...], step: str) -> Prunable:
    """The weights that `options` make sparse.

    Biases and norms are never among them, nor are embeddings that are nothing else. Depthwise convolutions, and those
    that read the network's input, are where `include` names them.

    Args:
        inputs: a few samples on the network's device: what reads them is found by running it.
        step: name of the pass, for errors.

    Raises:
        PassError: `include` or `exclude` name what is not there, or no weight is left.
    """
    whole, network = network, inner(network)
    _check_names(network, options, step)
    stems = _reading_the_input(whole, network, inputs)
    weights: dict[str, nn.Parameter] = {}
    dense: dict[str, str] = {}
    named: dict[int, str] = {}
    for layer, weight, parameter in _weights(network):
        name = f"{layer}.{weight}" if layer else weight
        reason = _stays_dense(network.get_submodule(layer), layer, parameter, options, stems)
        first = named.setdefault(id(parameter), name)
        if first != name:  # shared: left dense by any of its layers, it stays dense
            if reason and first in weights:
                del weights[first]
                dense[first] = f"{reason}, as {name}"
        elif reason:
            dense[name] = reason
        else:
            weights[name] = parameter
    if not weights:
        raise PassError(
            what="no weight of the network can become zero",
            where=f"step {step}, sparsity",
            fix="; ".join(f"{name}: {reason}" for name, reason in dense.items())
            or "drop sparsity: there are no layers",
        )
    return Prunable(weights, dense)


def inner(network: nn.Module) -> nn.Module:
    """The network itself where it is run over time: what a user knows its layers by."""
    return network.step if isinstance(network, OverTime) and isinstance(network.step, nn.Module) else network


def _weights(network: nn.Module) -> Iterator[tuple[str, str, nn.Parameter]]:
    for layer, module in network.named_modules():
        if isinstance(module, _NO_PRODUCT):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() > 1 and "weight" in name and "bias" not in name:
                yield layer, name, parameter


def _stays_dense(
    module: nn.Module, layer: str, parameter: nn.Parameter, options: SparsityOptions, stems: frozenset[str]
) -> str:
    """Why a weight stays dense; empty where it may become zero."""
    if any(_within(layer, name) for name in options.exclude):
        return "named in exclude"
    if not parameter.requires_grad:
        return "is not trained"
    if not any(_within(layer, name) for name in options.include):
        if isinstance(module, _Conv | _Transposed) and 1 < module.groups == module.in_channels:
            return "depthwise convolution"
        if layer in stems:
            return "first convolution"
    if options.pattern == "2:4":
        if isinstance(module, _Transposed):
            return "transposed convolution: no sparse kernel reads it"
        if isinstance(module, _Conv) and module.groups > 1:
            return "grouped convolution: no sparse kernel reads it"
        if parameter.shape[1] % GROUP:
            return f"{parameter.shape[1]} inputs are no multiple of {GROUP}"
    return ""


def _within(layer: str, name: str) -> bool:
    return layer == name or layer.startswith(f"{name}.")


def _check_names(network: nn.Module, options: SparsityOptions, step: str) -> None:
    known = [name for name, _ in network.named_modules() if name]
    for key, names in (("include", options.include), ("exclude", options.exclude)):
        for name in names:
            if name not in known:
                raise PassError(
                    what=f"the network has no layer {name!r}",
                    where=f"step {step}, sparsity.{key}",
                    fix=suggest(name, known, "layers"),
                )


def _reading_the_input(whole: nn.Module, network: nn.Module, inputs: tuple[Tensor, ...]) -> frozenset[str]:
    """Names of the convolutions of `network` that are given what the first one to run is given."""
    seen: list[tuple[str, Tensor]] = []

    def note(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: nn.Module, given: Sequence[object]) -> None:
            seen.extend((name, tensor) for tensor in pytree.tree_leaves(given)[:1] if isinstance(tensor, Tensor))

        return network.get_submodule(name).register_forward_pre_hook(hook)

    handles = [note(name) for name, module in network.named_modules() if isinstance(module, _Conv)]
    modes = {module: module.training for module in whole.modules()}
    try:
        with torch.no_grad():
            whole.eval()(*inputs)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return frozenset(name for name, given in seen if given is seen[0][1])
