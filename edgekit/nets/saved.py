"""A Model on disk, without pickle: what to call, what was edited, and the weights.

model.json            source, outputs, edits, history
weights.safetensors   parameters and persistent buffers by name
structure.onnx        only of a network that came from an .onnx file: its graph, the numbers of its weights left out
table.json            only with a quantisation table: edges, formats of weights, what was kept in high precision
table.safetensors     its integer codes, scales, means and shifts
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from edgekit.errors import ModelError
from edgekit.nets.edits import Edit, apply_edits
from edgekit.nets.load import reconstruct
from edgekit.nets.model import Model
from edgekit.nets.quantisation import EdgeRange, Kept, QuantisationTable, WeightCodes
from edgekit.schema.base import Record
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import OutputSpec

_MODEL, _WEIGHTS, _TABLE, _CODES = "model.json", "weights.safetensors", "table.json", "table.safetensors"
_STRUCTURE = "structure.onnx"
_R = TypeVar("_R", bound=Record)


class _Structure(Record):
    source: ModelSource
    outputs: tuple[OutputSpec, ...]
    edits: tuple[Edit, ...]
    history: tuple[str, ...]


class _SavedEdge(Record):
    low: float
    high: float
    scale: float
    zero_point: int
    number: str


class _SavedWeight(Record):
    axis: int
    number: str
    group: int | None


class _SavedKept(Record):
    number: str
    reason: str


class _SavedTable(Record):
    edges: dict[str, _SavedEdge]
    weights: dict[str, _SavedWeight]
    means: tuple[str, ...]
    shifts: tuple[str, ...]
    kept: dict[str, _SavedKept]
    activations: str


def save_model(model: Model, folder: Path) -> None:
    """Write `model` into `folder`, which is made if need be. The same model gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _files(model):
        (folder / name).write_bytes(content)
    for name in (*((_TABLE, _CODES) if model.table is None else ()), *((_STRUCTURE,) if not model.structure else ())):
        (folder / name).unlink(missing_ok=True)


def load_model(folder: Path) -> Model:
    """The model that `save_model` wrote: the factory is called, the edits are done again, the weights put in.

    Outputs are equal to the last bit to those of the saved model, in any process on the same machine.

    Raises:
        ModelError: a file is absent or damaged, or the factory no longer makes the network that the edits are for.
    """
    structure = _read_record(folder / _MODEL, _Structure)
    graph = _read_bytes(folder / _STRUCTURE) if structure.source.onnx is not None else None
    network = apply_edits(reconstruct(structure.source, graph, str(folder / _STRUCTURE)), structure.edits)
    _put_weights(network, _read_tensors(folder / _WEIGHTS), folder, structure.source)
    table = load_table(folder) if (folder / _TABLE).exists() else None
    network.eval()
    return Model(network, structure.source, structure.outputs, structure.edits, structure.history, table, graph)


def load_table(folder: Path) -> QuantisationTable:
    """The quantisation table in `folder`.

    Raises:
        ModelError: a file is absent or damaged, or the two do not speak of the same weights.
    """
    saved = _read_record(folder / _TABLE, _SavedTable)
    tensors = _read_tensors(folder / _CODES)
    expected = {f"{name}/{part}" for name in saved.weights for part in ("codes", "scale")}
    expected |= {f"{name}/mean" for name in saved.means} | {f"{name}/shift" for name in saved.shifts}
    if set(tensors) != expected:
        raise ModelError(f"{_TABLE} and {_CODES} speak of different weights", str(folder), "quantise the model again")
    return QuantisationTable(
        edges={name: EdgeRange(**edge.model_dump()) for name, edge in saved.edges.items()},
        weights={
            name: WeightCodes(tensors[f"{name}/codes"], tensors[f"{name}/scale"], **weight.model_dump())
            for name, weight in saved.weights.items()
        },
        means={name: tensors[f"{name}/mean"] for name in saved.means},
        shifts={name: tensors[f"{name}/shift"] for name in saved.shifts},
        kept={name: Kept(**kept.model_dump()) for name, kept in saved.kept.items()},
        activations=saved.activations,
    )


def model_digest(model: Model) -> str:
    """sha256 over everything that `save_model` writes but where its files lay, hexadecimal.

    A checkpoint's numbers are among the weights, a file's sha256 is in its source: two models from the same file in
    two folders are equal.
    """
    digest = hashlib.sha256()
    for name, content in _files(replace(model, source=model.source.without_places)):
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def state_bytes(model: Model) -> int:
    """Bytes of the weights as an artifact would store them.

    A weight with integer codes counts `bits` bits a code and 4 bytes a scale; everything else its own dtype, so a bias
    counts 4 bytes a number. Counters of batch norms are not stored.
    """
    coded = {} if model.table is None else model.table.weights
    total = 0
    for name, tensor in model.network.state_dict().items():
        if name in coded:
            total += -(-coded[name].codes.numel() * coded[name].bits // 8) + coded[name].scale.numel() * 4
        elif not name.endswith("num_batches_tracked"):
            total += tensor.numel() * tensor.element_size()
    for name, weight in coded.items():
        if name not in model.network.state_dict():  # made of stored tensors number by number, as parts of one are
            numbers = weight.codes.numel()
            total += -(-numbers * weight.bits // 8) + weight.scale.numel() * 4 - numbers * 4
    return total


def _files(model: Model) -> list[tuple[str, bytes]]:
    structure = _Structure(source=model.source, outputs=model.outputs, edits=model.edits, history=model.history)
    files = [
        (_MODEL, _json(structure.model_dump(mode="json"))),
        (_WEIGHTS, _tensor_bytes(model.network.state_dict())),
    ]
    if model.structure is not None:
        files.append((_STRUCTURE, model.structure))
    if model.table is not None:
        weights = model.table.weights
        saved = _SavedTable(
            edges={name: _SavedEdge(**asdict(edge)) for name, edge in model.table.edges.items()},
            weights={n: _SavedWeight(axis=w.axis, number=w.number, group=w.group) for n, w in weights.items()},
            means=tuple(model.table.means),
            shifts=tuple(model.table.shifts),
            kept={name: _SavedKept(**asdict(kept)) for name, kept in model.table.kept.items()},
            activations=model.table.activations,
        )
        tensors = {f"{name}/codes": codes.codes for name, codes in weights.items()}
        tensors |= {f"{name}/scale": codes.scale for name, codes in weights.items()}
        tensors |= {f"{name}/mean": mean for name, mean in model.table.means.items()}
        tensors |= {f"{name}/shift": shift for name, shift in model.table.shifts.items()}
        files += [(_TABLE, _json(saved.model_dump(mode="json"))), (_CODES, _tensor_bytes(tensors))]
    return files


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    # cloned: safetensors refuses tensors that share memory, as tied weights do
    return save({name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)})


def _put_weights(network: nn.Module, state: Mapping[str, Tensor], folder: Path, source: ModelSource) -> None:
    own = network.state_dict()
    differ = sorted(set(own) ^ set(state))
    differ += [n for n in own if n in state and (own[n].shape != state[n].shape or own[n].dtype != state[n].dtype)]
    if differ:
        raise ModelError(
            f"the weights are for another network; {len(differ)} differ, such as {differ[0]}",
            f"{folder}: {source.where}",
            "what it is made from changed since the model was saved: build it again",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise ModelError(f"cannot be read: {err.strerror}", str(path), "build the model again") from err


def _read_record(path: Path, record: type[_R]) -> _R:
    try:
        return record.model_validate_json(_read_bytes(path))
    except ValidationError as err:
        raise ModelError(
            f"is damaged: {err.error_count()} fields are wrong", str(path), "build the model again"
        ) from err


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except OSError as err:
        raise ModelError(f"cannot be read: {err.strerror}", str(path), "build the model again") from err
    except SafetensorError as err:
        raise ModelError(f"is damaged: {err}", str(path), "build the model again") from err
