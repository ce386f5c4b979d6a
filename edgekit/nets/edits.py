"""Structure changes from a closed list, as data: what a pass did to a network can be replayed without its code."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from edgekit.errors import ModelError
from edgekit.nets.blocks import Skip
from edgekit.nets.keep import keep_channels, keep_of_tensor
from edgekit.nets.multihead import Attention
from edgekit.schema.base import Record
from edgekit.schema.find import suggest


class Keep(Record):
    """Keep these channels of a layer's output or input side and drop the others.

    A depthwise convolution and a norm have one set of channels: side `out` cuts all of it, side `in` is refused, so
    that recording both sides cannot cut twice.
    """

    kind: Literal["keep"] = "keep"
    layer: str
    side: Literal["out", "in"]
    indices: tuple[int, ...] = Field(min_length=1, description="ascending, as numbered before this edit")


class Replace(Record):
    """Put a new layer, built from a closed list of kinds, in the place of one.

    The place may hold None, such as `RepVGGBlock.conv` before it is merged; by `none` leaves None there.
    """

    kind: Literal["replace"] = "replace"
    layer: str
    by: Literal["conv2d", "linear", "identity", "skip", "none"]
    arguments: dict[str, Any] = Field(default_factory=dict, description="as torch's constructor takes them, by name")


class KeepOfTensor(Record):
    """Keep these indices of one axis of a parameter or buffer that belongs to no layer which `Keep` knows."""

    kind: Literal["keep_of_tensor"] = "keep_of_tensor"
    tensor: str
    axis: int = Field(ge=0)
    indices: tuple[int, ...] = Field(min_length=1, description="ascending, as numbered before this edit")


class Resize(Record):
    """A whole number that a module's code takes a size from, such as its number of heads, becomes less."""

    kind: Literal["resize"] = "resize"
    layer: str = Field(description="empty: the network itself")
    attribute: str
    size: int = Field(ge=1)


class Open(Record):
    """An `nn.MultiheadAttention` becomes `nets/multihead.py`'s attention, which may have fewer heads, same weights."""

    kind: Literal["open"] = "open"
    layer: str


Edit = Annotated[Keep | KeepOfTensor | Replace | Resize | Open, Field(discriminator="kind")]

_KINDS: dict[str, type[nn.Module]] = {"conv2d": nn.Conv2d, "linear": nn.Linear, "identity": nn.Identity, "skip": Skip}


def apply_edits(network: nn.Module, edits: Iterable[Edit]) -> nn.Module:
    """A deep copy of `network` with the edits done in order. Weights that stay keep their values.

    A new layer has torch's initial weights, the same at every call; whoever replaces a layer fills it.

    Raises:
        ModelError: no such layer, or a layer of a kind that the edit cannot change.
        ShapeError: indices outside the layer, not ascending, or not the same number in every group.
    """
    edited = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for edit in edits:
            match edit:
                case Keep():
                    keep_channels(_child(edited, edit.layer), edit.side, edit.indices, _where(edit))
                case KeepOfTensor():
                    keep_of_tensor(edited, edit.tensor, edit.axis, edit.indices, _where(edit))
                case Replace():
                    _replace(edited, edit)
                case Resize():
                    _resize(edited, edit)
                case Open():
                    _open(edited, edit)
    return edited


def _open(network: nn.Module, edit: Open) -> None:
    old = _child(network, edit.layer)
    if not isinstance(old, nn.MultiheadAttention):
        raise ModelError(f"a {type(old).__name__} cannot be opened", _where(edit), "open an nn.MultiheadAttention")
    path, _, name = edit.layer.rpartition(".")
    setattr(network.get_submodule(path), name, Attention.of(old))


def _resize(network: nn.Module, edit: Resize) -> None:
    layer = _child(network, edit.layer) if edit.layer else network
    old = vars(layer).get(edit.attribute)
    if type(old) is not int or edit.size > old:
        raise ModelError(
            f"attribute {edit.attribute!r} is {old!r}, which cannot become {edit.size}",
            _where(edit),
            "only a whole number of the layer's own can become less",
        )
    setattr(layer, edit.attribute, edit.size)


def _replace(network: nn.Module, edit: Replace) -> None:
    old = _child(network, edit.layer, none_allowed=True)
    path, _, name = edit.layer.rpartition(".")
    owner = network.get_submodule(path)
    if edit.by == "none":
        if isinstance(owner, nn.Sequential | nn.ModuleList | nn.ModuleDict):
            raise ModelError(f"a {type(owner).__name__} cannot hold None", _where(edit), "replace by identity")
        setattr(owner, name, None)
        return
    try:
        new = _KINDS[edit.by](**edit.arguments)
    except (TypeError, ValueError, RuntimeError) as err:
        raise ModelError(f"no {edit.by} from {edit.arguments}: {err}", _where(edit), "give torch's arguments") from err
    like = next(network.parameters(), None)
    if like is not None:
        new = new.to(like.device, like.dtype)
    setattr(owner, name, new.train(owner.training if old is None else old.training))


def _child(network: nn.Module, path: str, none_allowed: bool = False) -> nn.Module | None:
    owner: nn.Module = network
    *parents, last = path.split(".")
    for part in parents:
        found = owner._modules.get(part)
        if found is None:
            raise _no_layer(network, path)
        owner = found
    child = owner._modules.get(last)
    if child is None and not (none_allowed and last and getattr(owner, last, owner) is None):
        raise _no_layer(network, path)
    return child


def _no_layer(network: nn.Module, path: str) -> ModelError:
    names = [name for name, _ in network.named_modules() if name]
    return ModelError(f"no layer is called {path!r}", "edits", suggest(path, names, "layers")[:400])


def _where(edit: Edit) -> str:
    return f"edits, {edit.kind} {edit.tensor if isinstance(edit, KeepOfTensor) else edit.layer}"
