"""Groups are tried before any is chosen: sizes that are written into a network's code are found by running it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgekit.nets.edits import apply_edits
from edgekit.nets.model import Model
from edgekit.passes.prune.cut import keep_edits
from edgekit.passes.prune.discover import Found, follow_groups
from edgekit.passes.prune.group import ChannelGroup, ChannelGroups
from edgekit.passes.prune.labels import Ids

_TOLERANCE = 1e-3  # of the largest output: far above float32 rounding, far below a channel that is read wrongly
_SIZES_AT_ONCE = 6  # numbers of modules whose every choice is tried


def find_groups(model: Model, keep: Sequence[str] = ()) -> ChannelGroups:
    """All groups of channels that the network runs without.

    Each has been tried: the network without one of its channels answers as with zeros in all that reads the channel.
    Where a norm averages over them nothing can be compared, and the network has to run.

    Args:
        keep: layers whose outputs stay, by name; `*` matches any run of characters.

    Raises:
        PassError: `keep` names no layer, or the network cannot be traced.
    """
    found = follow_groups(model, keep)
    exact, others = ([group for group in found.groups if group.exact is wanted] for wanted in (True, False))
    good, left = [], dict(found.left)
    for groups in (exact, others):
        if _failure(model, found, groups) is None:
            good += groups
            continue
        for group in groups:
            tried = _with_fewer_sizes(model, found, group)
            if isinstance(tried, str):
                left[group.root] = tried
            else:
                good.append(tried)
    order = {group.root: place for place, group in enumerate(found.groups)}
    return ChannelGroups(tuple(sorted(good, key=lambda group: order[group.root])), left)


def _with_fewer_sizes(model: Model, found: Found, group: ChannelGroup) -> ChannelGroup | str:
    """The group with those of its sizes that work, as many as can be; or why none do.

    A number of a module may be as large as the channels by chance.
    """
    first = _failure(model, found, [group])
    if first is None:
        return group
    if len(group.sizes) <= _SIZES_AT_ONCE:
        for count in reversed(range(len(group.sizes))):
            for sizes in combinations(group.sizes, count):
                fewer = replace(group, sizes=sizes)
                if _failure(model, found, [fewer]) is None:
                    return fewer
    return first


def _failure(model: Model, found: Found, groups: Sequence[ChannelGroup]) -> str | None:
    """Why the network cannot lose the first channel of these groups; None where it can."""
    if not groups:
        return None
    removed = {group.root: (0,) for group in groups}
    inputs = model.example(2, seed=1)
    try:
        network = apply_edits(model.network, keep_edits(model, groups, removed))
        with torch.no_grad():
            made = pytree.tree_leaves(network(*inputs))
    except Exception as err:  # the network is the user's code
        line = str(err).splitlines()[0] if str(err) else type(err).__name__
        return f"the network does not run without some of its channels: {line}"
    if not all(group.exact for group in groups):
        with torch.no_grad():
            wanted = pytree.tree_leaves(model.network(*inputs))
        same = [one.shape for one in made] == [one.shape for one in wanted]
        return None if same else "the network's outputs lose channels with it"
    silent = _silenced(model.network, found, np.concatenate([found.classes[group.root][:1] for group in groups]))
    with torch.no_grad():
        wanted = pytree.tree_leaves(silent(*inputs))
    for one, other in zip(made, wanted, strict=True):
        if one.shape != other.shape or _error(one, other) > _TOLERANCE:
            return "the network without some of its channels is not the network in which nothing reads them"
    return None


def _error(found: Tensor, wanted: Tensor) -> float:
    if not wanted.is_floating_point() or not wanted.numel():
        return 0.0
    largest = wanted.abs().max().item()
    return (found - wanted).abs().max().item() / largest if largest > 0 else 0.0


def _silenced(network: nn.Module, found: Found, gone: Ids) -> nn.Module:
    """A copy in which nothing reads these channels."""
    flow = found.flow
    silent = copy.deepcopy(network)
    tensors = dict([*silent.named_parameters(), *silent.named_buffers()])
    with torch.no_grad():
        for name, ids in flow.readers.items():
            read = np.intersect1d(flow.channels.find(np.concatenate(ids)), gone)
            for part in flow.tensors[name].parts:
                places = np.flatnonzero(np.isin(flow.channels.find(part.ids), read))
                if len(places):
                    tensors[name].index_fill_(part.axes[0], torch.from_numpy(places), 0)
    return silent
