"""Names of layers: those that the graph's weights and nodes have, as paths that torch takes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from edgekit.nets.from_onnx.network import LayerList

# what exporters call a tensor that has no name in the network; ONNX's exporter of torch takes these names itself
_MADE_UP = re.compile(r"val_\d+|onnx::.*|\d+|_?[Cc]onst[^.]*")
_WEIGHTS = (".weight", ".bias", ".running_mean", ".weight_ih_l0")


class Names:
    """Gives every layer and stored tensor a path of its own.

    A layer is called as its weight is without `.weight`; every other one like its node. Parts of a path are letters,
    digits and `_` only.
    """

    def __init__(self, weights: Iterable[str]) -> None:
        self._reserved = {path for name in weights if (path := layer_of(name)) is not None}
        self._leaves: set[str] = set()
        self._inner: set[str] = set()

    def take(self, wanted: str, weights: Iterable[str] = ()) -> str:
        """A free path: of the layer that the first of `weights` with such a name belongs to, else near `wanted`."""
        own = next((path for name in weights if (path := layer_of(name)) is not None), None)
        path = own or _path(wanted)
        while not own and self._below_layer(path):
            parent, _, leaf = path.rpartition(".")
            path = f"{parent}_{leaf}" if parent else f"{leaf}_"
        free, count = path, 1
        while not self._free(free, reserved=own is None):
            count += 1
            free = f"{path}_{count}"
        self._leaves.add(free)
        parts = free.split(".")
        self._inner |= {".".join(parts[:i]) for i in range(1, len(parts))}
        return free

    def tensor(self, origin: str | None, wanted: str) -> str:
        """A free path of a stored tensor: its own name, unless an exporter made that up, else near `wanted`."""
        return self.take(wanted if origin is None or _MADE_UP.fullmatch(origin) else origin)

    def _below_layer(self, path: str) -> bool:
        parts = path.split(".")
        above = {".".join(parts[:i]) for i in range(1, len(parts))}
        return bool(above & (self._leaves | self._reserved))

    def _free(self, path: str, *, reserved: bool) -> bool:
        if path in self._leaves or path in self._inner or (reserved and path in self._reserved):
            return False
        parts = path.split(".")
        return not {".".join(parts[:i]) for i in range(1, len(parts))} & self._leaves


def layer_of(weight: str) -> str | None:
    """Path of the layer that a weight belongs to by its name, as torch names weights; None for other names."""
    for ending in _WEIGHTS:
        if weight.endswith(ending) and len(weight) > len(ending):
            return _path(weight.removesuffix(ending))
    return None


def _path(name: str) -> str:
    """`/layer1/layer1.0/conv1/Conv` -> `layer1.0.conv1.Conv`: what torch repeats in a node's name stands once."""
    kept: list[str] = []
    for part in name.split("/"):
        if kept and part.startswith(f"{kept[-1]}."):
            kept.pop()
        kept.append(part)
    parts = [re.sub(r"[^0-9A-Za-z_]", "_", part) for whole in kept for part in whole.split(".") if part]
    # what torch.nn.Module has of that name must stay what it is
    return ".".join(f"{part}_" if hasattr(LayerList, part) or part == "wiring" else part for part in parts) or "layer"
