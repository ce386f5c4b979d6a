"""Reading weights from disk, never by unpickling more than tensors and plain containers."""

from __future__ import annotations

import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgekit.errors import DataError, ModelError
from edgekit.schema.find import suggest
from edgekit.schema.recipe import Checkpoint

_WHERE = "model.checkpoint"


def read_state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Tensors of a checkpoint by name, the prefix stripped.

    Raises:
        DataError: no such file, or its digest differs from `sha256`.
        ModelError: the file holds more than tensors and plain containers, or is not what its suffix says, or has no
            state dict at `key`.
    """
    path = Path(checkpoint.path)
    if not path.is_file():
        raise DataError(
            "there is no such file", f"{_WHERE}.path: {path}", "check the path, and EDGEKIT_DATA where it is used"
        )
    if checkpoint.sha256 is not None:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != checkpoint.sha256:
            raise DataError(
                f"its sha256 is {digest}", f"{_WHERE}: {path}", "get the file that sha256 names, or correct it"
            )
    read = _READERS.get(path.suffix)
    if read is None:
        raise ModelError(
            f"no reader for {path.suffix or 'a file without suffix'}",
            f"{_WHERE}.path: {path}",
            f"use {', '.join(_READERS)}",
        )
    content: object = read(path)
    if checkpoint.key is not None:
        assert isinstance(content, Mapping)
        if checkpoint.key not in content:
            raise ModelError(
                f"no entry {checkpoint.key!r}",
                f"{_WHERE}.key: {path}",
                suggest(checkpoint.key, sorted(map(str, content)), "entries")[:400],
            )
        content = content[checkpoint.key]
    return _tensors(content, checkpoint, path)


def load_state(network: nn.Module, state: Mapping[str, Tensor], checkpoint: Checkpoint) -> None:
    """Put `state` into `network`, every tensor accounted for.

    A batch norm's `num_batches_tracked` may be absent: files from other frameworks do not have it.

    Raises:
        ModelError: missing or unexpected names that no pattern of the checkpoint allows, or other shapes.
    """
    own = network.state_dict()
    allowed_missing = (*checkpoint.ignore_missing, "*num_batches_tracked")
    missing = [name for name in own if name not in state and not _matches(name, allowed_missing)]
    unexpected = [name for name in state if name not in own and not _matches(name, checkpoint.ignore_unexpected)]
    shared = [name for name in own if name in state]
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in shared
        if state[name].shape != own[name].shape
    ]
    parts = [
        f"{len(names)} {kind}: {_some(names)}"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if parts:
        raise ModelError(
            f"the file does not fit the network: {'; '.join(parts)}",
            f"{_WHERE}: {checkpoint.path}",
            _fix(missing, unexpected, shapes),
        )
    with torch.no_grad():
        for name in shared:
            own[name].copy_(state[name])


def _fix(missing: list[str], unexpected: list[str], shapes: list[str]) -> str:
    if missing and unexpected:
        for name in unexpected:
            for wanted in missing:
                if name.endswith(f".{wanted}"):
                    return f"set strip_prefix: {name.removesuffix(wanted)!r}"
    if shapes and not missing and not unexpected:
        return "give the factory the arguments that the file was trained with"
    return "correct factory or arguments; name what may differ in ignore_missing or ignore_unexpected"


def _some(names: list[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _tensors(content: object, checkpoint: Checkpoint, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not content:
        raise ModelError(
            f"holds {type(content).__name__}", f"{_WHERE}: {path}", "set `key` to the entry with the state dict"
        )
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise ModelError(
            f"not a state dict; these are no tensors: {_some(others)}",
            f"{_WHERE}: {path}",
            "set `key` to the entry with the state dict",
        )
    return {str(name).removeprefix(checkpoint.strip_prefix): value for name, value in content.items()}


def _read_torch(path: Path) -> Mapping[str, object]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # an unusual pickle protocol: what follows from it is judged below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as err:
        raise ModelError(
            "the file holds more than tensors and plain containers, or is damaged; it was not unpickled",
            f"{_WHERE}: {path}",
            "save the state dict alone: torch.save(network.state_dict(), ...)",
        ) from err
    except Exception as err:  # damaged bytes lead its unpickler anywhere: KeyError, IndexError, struct.error, ...
        raise ModelError("not a file of torch.save", f"{_WHERE}: {path}", "save it again, or get it again") from err
    return content if isinstance(content, Mapping) else {}


def _read_npz(path: Path) -> Mapping[str, object]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _decoded({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    except (ValueError, TypeError, OSError, zipfile.BadZipFile, AttributeError) as err:
        raise ModelError(
            f"not an .npz of numeric arrays: {err}", f"{_WHERE}: {path}", "save it with numpy.savez, without objects"
        ) from err


def _decoded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights published as integers, `<name>_q` with `<name>_scale` and maybe `<name>_zp`, become floats `<name>`.

    real = scale * (code - zero_point), with one scale or one for each index of axis 0.
    """
    parts = {
        name: [name.removesuffix("_q") + end for end in ("_scale", "_zp")]
        for name in tensors
        if name.endswith("_q") and name.removesuffix("_q") + "_scale" in tensors
    }
    used = {part for name, others in parts.items() for part in (name, *others)}
    found = {name: tensor for name, tensor in tensors.items() if name not in used}
    for name, (scale, zero_point) in parts.items():
        codes = tensors[name].double()
        along = (-1, *[1] * (codes.dim() - 1))
        zero = tensors.get(zero_point, torch.zeros(1)).double().reshape(along)
        found[name.removesuffix("_q")] = ((codes - zero) * tensors[scale].double().reshape(along)).float()
    return found


def _read_safetensors(path: Path) -> Mapping[str, object]:
    try:
        return dict(load_file(path))
    except SafetensorError as err:
        raise ModelError(f"not a safetensors file: {err}", f"{_WHERE}: {path}", "get the file again") from err


_READERS: Mapping[str, Callable[[Path], Mapping[str, object]]] = {
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".th": _read_torch,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
}
