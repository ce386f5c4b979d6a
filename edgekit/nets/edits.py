"""Structure changes from a closed list, as data: what a pass did to a network can be replayed without its code."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekit.errors import ModelError, ShapeError
from edgekit.schema.base import Record
from edgekit.schema.find import suggest


class Keep(Record):
    """Keep these channels of a layer's output or input side and drop the others.

    A depthwise convolution and a batch norm have one set of channels: side `out` cuts all of it, side `in` is refused,
    so that recording both sides cannot cut twice.
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
    by: Literal["conv2d", "linear", "identity", "none"]
    arguments: dict[str, Any] = Field(default_factory=dict, description="as torch's constructor takes them, by name")


Edit = Annotated[Keep | Replace, Field(discriminator="kind")]

_KINDS: dict[str, type[nn.Module]] = {"conv2d": nn.Conv2d, "linear": nn.Linear, "identity": nn.Identity}


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
            if isinstance(edit, Keep):
                _keep(edited, edit)
            else:
                _replace(edited, edit)
    return edited


def _keep(network: nn.Module, edit: Keep) -> None:
    layer = _child(network, edit.layer)
    if isinstance(layer, nn.Conv2d):
        _keep_conv(layer, edit)
    elif isinstance(layer, nn.Linear):
        _keep_linear(layer, edit)
    elif isinstance(layer, nn.BatchNorm2d):
        _keep_norm(layer, edit)
    else:
        raise ModelError(
            f"a {type(layer).__name__} has no channels to keep",
            _where(edit),
            "keep channels of conv2d, linear, batch norm",
        )


def _keep_conv(conv: nn.Conv2d, edit: Keep) -> None:
    depthwise = conv.groups == conv.in_channels == conv.out_channels and conv.groups > 1
    if depthwise:
        _refuse_in(edit, "depthwise convolution")
        kept = _index(edit, conv.out_channels, conv.weight)
        _cut(conv, ("weight", "bias"), 0, kept)
        conv.in_channels = conv.out_channels = conv.groups = len(kept)
    elif edit.side == "out":
        kept = _index(edit, conv.out_channels, conv.weight)
        _per_group(kept, conv.out_channels, conv.groups, edit)
        _cut(conv, ("weight", "bias"), 0, kept)
        conv.out_channels = len(kept)
    else:
        kept = _index(edit, conv.in_channels, conv.weight)
        inside = _per_group(kept, conv.in_channels, conv.groups, edit)
        filters = conv.weight.detach().chunk(conv.groups, 0)
        weight = torch.cat([part[:, kept_here] for part, kept_here in zip(filters, inside, strict=True)])
        conv.weight = nn.Parameter(weight, requires_grad=conv.weight.requires_grad)
        conv.in_channels = len(kept)


def _keep_linear(linear: nn.Linear, edit: Keep) -> None:
    if edit.side == "out":
        kept = _index(edit, linear.out_features, linear.weight)
        _cut(linear, ("weight", "bias"), 0, kept)
        linear.out_features = len(kept)
    else:
        kept = _index(edit, linear.in_features, linear.weight)
        _cut(linear, ("weight",), 1, kept)
        linear.in_features = len(kept)


def _keep_norm(norm: nn.BatchNorm2d, edit: Keep) -> None:
    _refuse_in(edit, "batch norm")
    kept = _index(edit, norm.num_features, next(iter(norm.state_dict().values()), torch.empty(0)))
    _cut(norm, ("weight", "bias", "running_mean", "running_var"), 0, kept)
    norm.num_features = len(kept)


def _index(edit: Keep, channels: int, like: Tensor) -> Tensor:
    ascending = all(a < b for a, b in zip(edit.indices, edit.indices[1:], strict=False))
    if not ascending or edit.indices[0] < 0 or edit.indices[-1] >= channels:
        raise ShapeError(
            f"indices {edit.indices[0]}..{edit.indices[-1]} for {channels} channels",
            _where(edit),
            f"give ascending indices in 0..{channels - 1}",
        )
    return torch.tensor(edit.indices, dtype=torch.int64, device=like.device)


def _per_group(kept: Tensor, channels: int, groups: int, edit: Keep) -> list[Tensor]:
    """Indices inside each group; every group must keep the same number."""
    size = channels // groups
    inside = [kept[kept // size == group] - group * size for group in range(groups)]
    if len({len(part) for part in inside}) != 1:
        raise ShapeError(
            f"groups keep {[len(part) for part in inside]} channels",
            _where(edit),
            "keep the same number in every group",
        )
    return inside


def _cut(layer: nn.Module, names: Sequence[str], axis: int, kept: Tensor) -> None:
    for name in names:
        old = getattr(layer, name)
        if isinstance(old, nn.Parameter):
            setattr(layer, name, nn.Parameter(old.detach().index_select(axis, kept), requires_grad=old.requires_grad))
        elif old is not None:
            setattr(layer, name, old.index_select(axis, kept))


def _refuse_in(edit: Keep, kind: str) -> None:
    if edit.side == "in":
        raise ModelError(f"a {kind} has one set of channels", _where(edit), "record side 'out' once; it cuts both")


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
    return f"edits, {edit.kind} {edit.layer}"
