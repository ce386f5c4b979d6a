"""Weights into a network: every tensor accounted for, and a report that says what to change where they do not fit."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from edgekit.errors import ModelError
from edgekit.schema.recipe import Checkpoint

_SHOWN = 5
_PAIRS = 3


def load_state(network: nn.Module, state: Mapping[str, Tensor], checkpoint: Checkpoint) -> None:
    """Put `state` into `network`, every tensor accounted for.

    A batch norm's `num_batches_tracked` may be absent: files from other frameworks do not have it.

    Raises:
        ModelError: missing or unexpected names that no pattern of the checkpoint allows, or other shapes.
    """
    own = network.state_dict()
    allowed_missing = (*checkpoint.ignore_missing, "*num_batches_tracked")
    misfit = _Misfit(
        missing=[name for name in own if name not in state and not _matches(name, allowed_missing)],
        unexpected=[name for name in state if name not in own and not _matches(name, checkpoint.ignore_unexpected)],
        reshaped=[name for name in own if name in state and state[name].shape != own[name].shape],
        own=own,
        state=state,
    )
    if misfit.missing or misfit.unexpected or misfit.reshaped:
        raise ModelError(
            misfit.report(),
            f"model.checkpoint: {checkpoint.path}",
            misfit.fix(),
        )
    with torch.no_grad():
        for name in own:
            if name in state:
                own[name].copy_(state[name])


def tell_differences(reshaped: Sequence[str], missing: Sequence[str], unexpected: Sequence[str]) -> str:
    """How a file and a network differ: counts and first names. Wrong shapes come first, tensor by tensor."""
    kinds = (("of another shape", reshaped), ("missing", missing), ("unexpected", unexpected))
    parts = [f"{len(names)} {kind}: {_some(names)}" for kind, names in kinds if names]
    return f"the file does not fit the network: {'; '.join(parts)}"


def check_shaped(network: nn.Module, where: str) -> None:
    """Refuse parameters that take their shape from the first samples: a network is looked at before it sees any.

    Args:
        where: what the network was made from.

    Raises:
        ModelError: the first such parameter.
    """
    for name, tensor in network.named_parameters():
        if isinstance(tensor, UninitializedParameter):
            raise ModelError(
                f"parameter {name} has no shape before the network has seen a sample",
                where,
                "give the layer its sizes, or call the network once on a sample before it is handed over",
            )


def check_finite(network: nn.Module, where: str) -> None:
    """Refuse weights that hold NaN or infinities. Other buffers may hold infinities, as masks of attention do.

    Args:
        where: what the network was made from.

    Raises:
        ModelError: the first such tensor, its layer and how many of its numbers are not finite.
    """
    check_shaped(network, where)
    parameters = dict(network.named_parameters())
    for name, tensor in [*parameters.items(), *network.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        layer, _, leaf = name.rpartition(".")
        counted = name in parameters or leaf.startswith("running_")
        bad = ~torch.isfinite(tensor) if counted else torch.isnan(tensor)
        count = int(bad.sum())
        if count:
            values = "NaN" if bool(torch.isnan(tensor).any()) else "infinite"
            kind = type(network.get_submodule(layer)).__name__
            raise ModelError(
                f"{count} of the {tensor.numel()} numbers of {name} are {values}",
                f"layer {layer or '(the network itself)'} ({kind}), {where}",
                "take weights of a run that did not diverge; an earlier checkpoint may still be whole",
            )


@dataclass(frozen=True)
class _Misfit:
    """How a file and a network differ: names of the network that the file lacks, and so on."""

    missing: list[str]
    unexpected: list[str]
    reshaped: list[str]
    own: Mapping[str, Tensor]
    state: Mapping[str, Tensor]

    def report(self) -> str:
        """Every kind of difference, and which names may have been meant."""
        shapes = [
            f"{name} {tuple(self.state[name].shape)} instead of {tuple(self.own[name].shape)}" for name in self.reshaped
        ]
        pairs = [f"{wanted} by {found}" for wanted, found in self._pairs()]
        told = tell_differences(shapes, self.missing, self.unexpected)
        return "; ".join([told, *([f"perhaps meant: {', '.join(pairs)}"] if pairs else [])])

    def fix(self) -> str:
        """What to write into the recipe, as far as that can be told from the names."""
        prefix = self._prefix()
        if prefix:
            return f"set strip_prefix: {prefix!r}"
        wrapped = _common_prefix(self.missing, self.unexpected)
        if wrapped:
            return f"the network calls {wrapped!r} what the file's names lack: return that part of it from the factory"
        if self.reshaped and not self.missing and not self.unexpected:
            return "give the factory the arguments that the file was trained with"
        return "correct factory or arguments; name what may differ in ignore_missing or ignore_unexpected"

    def _prefix(self) -> str:
        """What the file's names begin with, where most of them are the network's names behind it."""
        counts: Counter[str] = Counter()
        for name in self.unexpected:
            parts = name.split(".")
            for cut in range(1, len(parts)):
                if ".".join(parts[cut:]) in self.own:
                    counts[".".join(parts[:cut]) + "."] += 1
        if not counts:
            return ""
        prefix, count = max(counts.items(), key=lambda item: (item[1], -len(item[0])))
        return prefix if count > sum(name in self.state for name in self.own) else ""

    def _pairs(self) -> list[tuple[str, str]]:
        """Names of the network with the file's name that resembles them most, of the same shape."""
        if self._prefix():
            return []
        pairs = []
        left = list(self.unexpected)
        for name in self.missing:
            same = [other for other in left if self.state[other].shape == self.own[name].shape]
            near = difflib.get_close_matches(name, same, n=1, cutoff=0.6)
            if near:
                pairs.append((name, near[0]))
                left.remove(near[0])
            if len(pairs) == _PAIRS:
                break
        return pairs


def _common_prefix(missing: list[str], unexpected: list[str]) -> str:
    """What most missing names have before a name of the file."""
    behind = Counter(name.removesuffix(other) for name in missing for other in unexpected if name.endswith(f".{other}"))
    prefix, count = behind.most_common(1)[0] if behind else ("", 0)
    return prefix if 2 * count > len(missing) else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
