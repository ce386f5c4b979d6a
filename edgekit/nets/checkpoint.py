"""Reading weights from disk, never by unpickling more than tensors and plain containers."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edgekit.errors import ModelError
from edgekit.schema.find import suggest
from edgekit.schema.recipe import Checkpoint
from edgekit.schema.weight_files import check_sha256, files_of

_WHERE = "model.checkpoint"


def read_state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Tensors of a checkpoint by name, the prefix stripped.

    Raises:
        DataError: no such file, or its digest differs from `sha256`; for an index, that of all its files.
        ModelError: the file holds more than tensors and plain containers, or is not what its suffix says, or has no
            state dict at `key`.
    """
    path = Path(checkpoint.path)
    files = files_of(path, f"{_WHERE}.path")
    check_sha256(files, checkpoint.sha256, f"{_WHERE}.sha256")
    read = _READERS.get(path.suffix)
    if read is None:
        raise ModelError(
            f"no reader for {path.suffix or 'a file without suffix'}",
            f"{_WHERE}.path: {path}",
            "it is a network, not weights: name it in model.pt2"
            if path.suffix == ".pt2"
            else f"use {', '.join(_READERS)}",
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


def _tensors(content: object, checkpoint: Checkpoint, path: Path) -> dict[str, Tensor]:
    """The state dict that `content` is, with the prefix taken from every name."""
    if not isinstance(content, Mapping) or not content:
        held = "nothing" if content == {} else type(content).__name__
        raise ModelError(f"holds {held} where the state dict should be", f"{_WHERE}: {path}", _key_of(None, checkpoint))
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise ModelError(
            f"not a state dict; these are no tensors: {_some(others)}",
            f"{_WHERE}: {path}",
            _key_of(content, checkpoint),
        )
    prefix = checkpoint.strip_prefix
    names = [str(name) for name in content]
    if prefix and not any(name.startswith(prefix) for name in names):
        begins = sorted({name.partition(".")[0] + "." for name in names if "." in name})
        raise ModelError(
            f"no name in the file begins with {prefix!r}",
            f"{_WHERE}.strip_prefix: {path}",
            suggest(prefix, begins, "names begin with")[:400],
        )
    found: dict[str, Tensor] = {}
    for name, value in content.items():
        stripped = str(name).removeprefix(prefix)
        if stripped in found:
            raise ModelError(
                f"{prefix + stripped!r} and {stripped!r} are both called {stripped!r} without the prefix",
                f"{_WHERE}.strip_prefix: {path}",
                "name in strip_prefix what only one of them begins with, or save the state dict alone",
            )
        found[stripped] = value
    return found


def _key_of(content: Mapping[object, object] | None, checkpoint: Checkpoint) -> str:
    """What `key` should be, as far as one entry alone looks like a state dict."""
    likely = [
        str(name)
        for name, value in (content or {}).items()
        if isinstance(value, Mapping) and value and all(isinstance(tensor, Tensor) for tensor in value.values())
    ]
    if likely and checkpoint.key is None:
        return f"set key: {likely[0]}" + (f" (also a state dict: {', '.join(likely[1:])})" if likely[1:] else "")
    return "set `key` to the entry with the state dict"


def _some(names: list[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _read_torch(path: Path) -> Mapping[str, object]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # an unusual pickle protocol: what follows from it is judged below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as err:
        called = re.search(r"GLOBAL ([\w.]+)", str(err))
        asked = f" (its pickle asks for {called[1]})" if called else ""
        raise ModelError(
            f"the file holds more than tensors and plain containers, or is damaged{asked}; it was not unpickled",
            f"{_WHERE}: {path}",
            "save the state dict alone: torch.save(network.state_dict(), ...)",
        ) from err
    except Exception as err:  # damaged bytes lead its unpickler anywhere: KeyError, IndexError, struct.error, ...
        if "TorchScript" in str(err):
            raise ModelError(
                "is a TorchScript archive, which holds code; nothing of it was run",
                f"{_WHERE}: {path}",
                "save the weights alone: torch.save(torch.jit.load(FILE).state_dict(), ...), where you trust the file",
            ) from err
        raise ModelError("not a file of torch.save", f"{_WHERE}: {path}", "save it again, or get it again") from err
    return content if isinstance(content, Mapping) else {}


def _read_npz(path: Path) -> Mapping[str, object]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
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
    except (SafetensorError, OSError) as err:
        raise ModelError(f"not a safetensors file: {err}", f"{_WHERE}: {path}", "get the file again") from err


def _read_shards(path: Path) -> Mapping[str, object]:
    """What the safetensors files named by an index hold together."""
    found: dict[str, object] = {}
    for shard in files_of(path, f"{_WHERE}.path")[1:]:
        found.update(_read_safetensors(shard))
    return found


_READERS: Mapping[str, Callable[[Path], Mapping[str, object]]] = {
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".th": _read_torch,
    ".bin": _read_torch,
    ".ckpt": _read_torch,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".json": _read_shards,
}
