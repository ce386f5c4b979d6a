"""Where a network has a batch norm right after a convolution or linear layer, by the traced program, not by names."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx, nn

from edgekit.errors import PassError
from edgekit.nets.model import Model

_aten = torch.ops.aten
_CONV2D = frozenset({_aten.conv2d.default, _aten.conv2d.padding})
_LINEAR = frozenset({_aten.linear.default})


@dataclass(frozen=True)
class NormPair:
    """Names of a layer, and of the batch norm that alone reads its output."""

    layer: str
    norm: str


@dataclass(frozen=True)
class NormPairs:
    """Pairs in execution order, and each norm that is in none with the reason."""

    pairs: tuple[NormPair, ...]
    left: dict[str, str]


def find_norm_pairs(model: Model) -> NormPairs:
    """Pairs that can be one layer.

    Raises:
        PassError: the network cannot be traced.
    """
    try:
        program = torch.export.export(model.network, model.example(batch=2))
    except Exception as err:  # torch.export raises many kinds; all of them mean the same here
        reason = (str(err) or type(err).__name__).splitlines()[0]
        raise PassError(
            what=f"the network cannot be traced: {reason}",
            where="step reparam",
            fix="torch.export must accept the network: no Python control flow that depends on tensor values",
        ) from err
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    pairs: list[NormPair] = []
    left: dict[str, str] = {}
    for node in program.graph.nodes:
        if node.op != "call_function" or node.target is not _aten.batch_norm.default:
            continue
        norm = _owner(node, range(1, 5), names)
        layer = _foldable_layer(model.network, node, names)
        if isinstance(layer, NormPair):
            pairs.append(layer)
        else:
            left[norm or node.name] = layer
    return NormPairs(tuple(pairs), left)


def _foldable_layer(network: nn.Module, node: fx.Node, names: dict[str, str]) -> NormPair | str:
    """The pair that this batch norm is the end of, or why it is in none."""
    mean, source = node.args[3], node.args[0]
    if not isinstance(mean, fx.Node):
        return "it keeps no running statistics"
    if len(mean.users) > 1:
        return "it is used in more than one place"
    if not isinstance(source, fx.Node) or source.target not in _CONV2D | _LINEAR:
        return "no convolution or linear layer comes right before it"
    if len(source.users) > 1:
        return "the output of the layer before it is used elsewhere too"
    weight = source.args[1]
    name = _owner(source, (1,), names)
    if not isinstance(weight, fx.Node) or name is None or len(weight.users) > 1:
        return "the weight before it is shared or computed"
    layer = network.get_submodule(name)
    if type(layer) is not (nn.Conv2d if source.target in _CONV2D else nn.Linear):
        return f"the layer before it is a {type(layer).__name__}"
    if source.target in _LINEAR and source.meta["val"].dim() != 2:
        return "it normalises another axis than the layer before it makes"
    norm = _owner(node, (3,), names)
    if norm is None or type(network.get_submodule(norm)) not in (nn.BatchNorm1d, nn.BatchNorm2d):
        return "it is not a BatchNorm1d or BatchNorm2d"
    return NormPair(name, norm)


def _owner(node: fx.Node, positions: range | tuple[int, ...], names: dict[str, str]) -> str | None:
    """Path of the module that owns a stored tensor among these arguments."""
    for position in positions:
        argument = node.args[position]
        if isinstance(argument, fx.Node) and argument.name in names:
            return names[argument.name].rpartition(".")[0]
    return None
