"""Where features are taken: modules of a network, found or named, and hooks that keep what they give.

A module that runs several times in one pass gives what it gave last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.nets.outputs import tensors_of
from edgekit.schema.find import suggest

_BATCH = 2


@dataclass(frozen=True)
class Tap:
    """A module whose output is looked at.

    Attributes:
        shape: of the output, without the batch.
        channel_axis: of the output, with the batch: 1 for (N, C, ...), 2 for tokens (N, T, C).
    """

    name: str
    shape: tuple[int, ...]
    channel_axis: int

    @property
    def channels(self) -> int:
        """Width of the feature."""
        return self.shape[self.channel_axis - 1]

    @property
    def places(self) -> tuple[int, ...]:
        """Its size without channels: height and width, or the number of tokens."""
        axis = self.channel_axis - 1
        return self.shape[:axis] + self.shape[axis + 1 :]

    def channels_first(self, output: Tensor) -> Tensor:
        """(N, C, ...) in float32."""
        return output.float().movedim(self.channel_axis, 1)


def find_taps(model: Model) -> tuple[Tap, ...]:
    """What each stage of the network gives, in the order in which they run.

    A stage of pictures (or of sequences) ends where their size changes. Where it never does, as in a transformer, it
    is one of the blocks that are repeated. A network of plain vectors has one: what its last layer reads.
    """
    records = _records(model)
    for dims in (None, 2):
        kept = [tap for tap in records if (len(tap.shape) > 1) == (dims is None)]
        kept = [tap for tap in kept if len(tap.shape) == len(kept[-1].shape)]  # of tokens behind patches: tokens
        if not kept:
            continue
        if dims == 2:
            return (kept[-1],)
        runs = [list(run) for _, run in groupby(kept, key=lambda tap: tap.places)]
        runs = [run for run in runs if any(_parameters(model, tap) for tap in run)]  # padding alone is no stage
        blocks = _blocks(model, kept) if len(runs) == 1 else []
        if runs:
            return tuple(blocks or (run[-1] for run in runs))
    return ()


def name_taps(model: Model, names: Iterable[str], where: str) -> tuple[Tap, ...]:
    """The taps at modules of these names.

    Raises:
        PassError: there is no such module, or it gives no feature: it does not run, or gives several tensors.
    """
    taps = {tap.name: tap for tap in _records(model)}
    modules = dict(model.network.named_modules())
    found = []
    for name in names:
        if name not in taps:
            what = "gives no tensor of features" if name in modules else "is not in the network"
            raise PassError(f"module {name!r} {what}", where, suggest(name, list(taps), "modules")[:400])
        found.append(taps[name])
    return tuple(found)


def match_taps(student: Sequence[Tap], teacher: Sequence[Tap]) -> tuple[tuple[Tap, Tap], ...]:
    """Pairs: stages of one size where each size occurs once, else by order, evenly, the last with the last."""
    sizes = [{tap.places: tap for tap in taps} for taps in (student, teacher)]
    shared = [size for size in sizes[0] if size in sizes[1]]
    if shared and len(sizes[0]) == len(student) and len(sizes[1]) == len(teacher):
        return tuple((sizes[0][size], sizes[1][size]) for size in shared)
    count = min(len(student), len(teacher))
    return tuple(
        (student[-(-(k + 1) * len(student) // count) - 1], teacher[-(-(k + 1) * len(teacher) // count) - 1])
        for k in range(count)
    )


@contextmanager
def watched(network: nn.Module, taps: Sequence[Tap]) -> Iterator[Callable[[], tuple[Tensor, ...]]]:
    """Inside, the function that is given takes what the taps gave in the last pass, (N, C, ...) each."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _inputs, output: seen.update({name: output})

    def take() -> tuple[Tensor, ...]:
        taken = tuple(tap.channels_first(seen[tap.name]) for tap in taps)
        seen.clear()
        return taken

    hooks = [network.get_submodule(tap.name).register_forward_hook(keep(tap.name)) for tap in taps]
    try:
        yield take
    finally:
        for hook in hooks:
            hook.remove()


def _records(model: Model) -> list[Tap]:
    """Every module that gives one tensor of floats for each sample, as it last ends, but for what the network gives."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            seen.pop(name, None)  # a module that runs again stands where it ran last
            if isinstance(output, Tensor):
                seen[name] = output

        return hook

    modules: Mapping[str, nn.Module] = {name: module for name, module in model.network.named_modules() if name}
    hooks = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        with torch.no_grad():
            given = tensors_of(model.network(*model.example(_BATCH)))
    finally:
        for hook in hooks:
            hook.remove()
    taps = []
    learned = False  # what comes before the first weights is the input
    for name, output in seen.items():
        learned = learned or any(True for _ in modules[name].parameters())
        is_answer = any(output.data_ptr() == tensor.data_ptr() for tensor in given)
        usable = output.is_floating_point() and output.dim() > 1 and len(output) == _BATCH
        if learned and usable and not is_answer and (output.dim() == 2 or output[0].numel() > max(output.shape[1:])):
            axis = 2 if output.dim() == 3 and not _convolves(modules[name]) else 1
            taps.append(Tap(name, tuple(output.shape[1:]), axis))
    return taps


def _convolves(module: nn.Module) -> bool:
    """Gives (N, C, T): a one-dimensional convolution or norm, or layers of which no one mixes channels otherwise."""
    kinds = [type(layer) for layer in module.modules() if any(True for _ in layer.parameters(recurse=False))]
    return bool(kinds) and all(issubclass(kind, nn.Conv1d | nn.BatchNorm1d) for kind in kinds)


def _parameters(model: Model, tap: Tap) -> bool:
    return any(True for _ in model.network.get_submodule(tap.name).parameters())


def _blocks(model: Model, taps: Sequence[Tap]) -> list[Tap]:
    """The longest row of modules of one class beside each other, as they run; empty where nothing is repeated."""
    rows: dict[tuple[str, type], list[Tap]] = {}
    for tap in taps:
        module = model.network.get_submodule(tap.name)
        if any(True for _ in module.children()) and _parameters(model, tap):
            rows.setdefault((tap.name.rpartition(".")[0], type(module)), []).append(tap)
    longest = max(rows.values(), key=len, default=[])
    return longest if len(longest) > 1 else []
