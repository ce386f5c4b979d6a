"""The zip archive of an exported program: every member is known and harmless, or the archive is refused.

What lies in it (torch/export/pt2_archive/_package.py): `models/NAME.json`, the graph; `data/weights` and
`data/constants`, raw bytes and a JSON table of what they are; `data/sample_inputs`, a pickle that nobody needs.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgekit.errors import ModelError

_FORMAT, _VERSION = b"pt2", b"0"
_SCHEMA = 8  # of the JSON: torch/_export/serde/schema.py
_SAVE_AGAIN = "save it again with torch.export.save of torch 2.9 or later, where you trust the program"

# Members that are read, and those that are not but may be there. The root folder has the file's own name.
_PLAIN = re.compile(
    r"archive_format|archive_version|byteorder|\.data/version|\.data/serialization_id|extra/.+"
    r"|models/[^/]+\.json|data/weights/[^/]+_weights_config\.json|data/constants/[^/]+_constants_config\.json"
)
_NUMBERS = re.compile(r"data/weights/weight_\d+|data/constants/tensor_\d+")
_SAMPLES = re.compile(r"data/sample_inputs/[^/]+\.pt")
# Members that torch.export.load would unpickle or run, with what they are
_REFUSED: Mapping[str, str] = {
    r"data/constants/(custom|opaque)_obj_.*": "an object that is made by unpickling it",
    r"data/(weights|constants)/[^/]+\.pt": "pickled weights, as torch wrote them before 2.8",
    r"data/aotinductor/.*": "compiled code",
    r"serialized_.*": "a program as torch wrote it before 2.8",
}

_DTYPES: Mapping[int, torch.dtype] = {  # ScalarType of the schema
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
_STRIDED = 7


@dataclass(frozen=True)
class Archive:
    """What an archive holds, as data.

    Attributes:
        program: the JSON of the graph, not looked into yet.
        weights: by the names that the graph knows them by; those that share numbers share the tensor.
        constants: tensors that are no part of the network's state.
    """

    program: dict[str, Any]
    weights: dict[str, Tensor]
    constants: dict[str, Tensor]


def read_archive(path: Path, where: str) -> Archive:
    """Everything of an archive that a network is made of.

    Args:
        where: recipe key, for messages.

    Raises:
        ModelError: it is no such archive, or holds a member that is unknown, pickled or damaged. Nothing was run.
    """
    where = f"{where}: {path}"
    try:
        with zipfile.ZipFile(path) as file:
            members = _members(file, where)
            return _read(members, where)
    except (zipfile.BadZipFile, OSError, EOFError) as err:
        raise ModelError(
            f"not an archive of torch.export.save: {err}", where, "save it again, or get it again"
        ) from err


def dtype_of(number: object, where: str) -> torch.dtype:
    """The dtype that a ScalarType of the schema means.

    Raises:
        ModelError: none that a network here can have.
    """
    if isinstance(number, int) and number in _DTYPES:
        return _DTYPES[number]
    raise ModelError(f"a tensor has the scalar type {number!r}", where, "export a network of ordinary numbers")


def _members(file: zipfile.ZipFile, where: str) -> dict[str, bytes]:
    """Contents by name without the root folder, each of a kind that is known; none is unpickled."""
    infos = [info for info in file.infolist() if not info.is_dir()]
    names = [info.filename.partition("/")[2] for info in infos]
    roots = {info.filename.partition("/")[0] for info in infos}
    if len(roots) != 1 or len(set(names)) != len(names):
        raise ModelError("its members do not lie once each in one folder", where, _SAVE_AGAIN)
    for info, name in zip(infos, names, strict=True):
        for pattern, kind in _REFUSED.items():
            if re.fullmatch(pattern, name):
                raise ModelError(f"member {name} is {kind}; nothing of it was run", where, _SAVE_AGAIN)
        if not any(pattern.fullmatch(name) for pattern in (_PLAIN, _NUMBERS, _SAMPLES)):
            raise ModelError(f"member {name} is of no known kind; nothing was loaded", where, _SAVE_AGAIN)
        if info.compress_type != zipfile.ZIP_STORED:  # torch stores; what is packed may unpack to anything
            raise ModelError(f"member {name} is compressed, which torch.export.save never does", where, _SAVE_AGAIN)
    return {name: file.read(info) for info, name in zip(infos, names, strict=True) if not name.startswith("extra/")}


def _read(members: Mapping[str, bytes], where: str) -> Archive:
    if members.get("archive_format") != _FORMAT or members.get("archive_version") != _VERSION:
        raise ModelError("not an archive of torch.export.save", where, _SAVE_AGAIN)
    if members.get("byteorder", b"little") != b"little":
        raise ModelError("its numbers are big-endian", where, "save it again on a little-endian machine")
    models = [name for name in members if name.startswith("models/")]
    if len(models) != 1:
        raise ModelError(
            f"it holds {len(models)} programs", where, "save one program: torch.export.save(program, FILE)"
        )
    for name, content in members.items():
        if _SAMPLES.fullmatch(name):
            _plain_pickle(content, name, where)
    name = models[0].removeprefix("models/").removesuffix(".json")
    program = _json(members, models[0], where)
    if _get(program, "schema_version", dict, where).get("major") != _SCHEMA:
        written = program.get("torch_version")
        raise ModelError(f"its schema is that of torch {written}, not version {_SCHEMA}", where, _SAVE_AGAIN)
    return Archive(
        program,
        _tensors(members, "data/weights/", f"{name}_weights_config.json", where),
        _tensors(members, "data/constants/", f"{name}_constants_config.json", where),
    )


def _tensors(members: Mapping[str, bytes], folder: str, table: str, where: str) -> dict[str, Tensor]:
    config = _get(_json(members, folder + table, where), "config", dict, where)
    made: dict[str, Tensor] = {}
    found = {}
    for name, row in config.items():
        identity = json.dumps(row, sort_keys=True)  # equal rows are one tensor under several names: tied weights
        if identity not in made:
            made[identity] = _tensor(members, folder, name, row, where)
        found[name] = made[identity]
    return found


def _tensor(members: Mapping[str, bytes], folder: str, name: str, row: Any, where: str) -> Tensor:
    member = folder + str(_get(row, "path_name", str, where))
    if member not in members:
        raise ModelError(f"the tensor {name} should be in {member}, which is absent", where, "get the file again")
    if _get(row, "use_pickle", bool, where):
        pickled = _plain_pickle(members[member], member, where)
        if type(pickled) not in (Tensor, torch.nn.Parameter):
            raise ModelError(f"member {member} holds a {type(pickled).__name__}, no plain tensor", where, _SAVE_AGAIN)
        assert isinstance(pickled, Tensor)
        return pickled.detach()
    meta = _get(row, "tensor_meta", dict, where)
    if meta.get("layout") != _STRIDED:
        raise ModelError(f"the tensor {name} is not stored densely", where, "export a network of dense tensors")
    dtype = dtype_of(meta.get("dtype"), where)
    content = members[member]
    if len(content) % dtype.itemsize:
        raise ModelError(f"member {member} is cut off", where, "get the file again")
    numbers = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
    sizes, strides = (
        tuple(_whole(size, where) for size in _get(meta, key, list, where)) for key in ("sizes", "strides")
    )
    try:
        return numbers.as_strided(sizes, strides, _whole(meta.get("storage_offset"), where)).clone()
    except RuntimeError as err:
        raise ModelError(f"the tensor {name} reaches beyond {member}", where, "get the file again") from err


def _plain_pickle(content: bytes, name: str, where: str) -> object:
    """What a pickle holds if it is tensors and plain containers alone."""
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as err:  # UnpicklingError for what is not allowed; damaged bytes lead anywhere
        raise ModelError(
            f"member {name} is a pickle of more than tensors, or damaged; it was not unpickled",
            where,
            "do not load this file with torch.export.load, which runs such pickles; get it from where you trust it",
        ) from err


def _json(members: Mapping[str, bytes], name: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(members[name])
    except (KeyError, ValueError, RecursionError) as err:
        raise ModelError(f"member {name} is absent or no JSON", where, "get the file again") from err
    if not isinstance(content, dict):
        raise ModelError(f"member {name} is no JSON object", where, "get the file again")
    return content


def _get(record: Any, key: str, kind: type, where: str) -> Any:
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        raise ModelError(f"{key!r} is not a {kind.__name__}", where, "get the file again")
    return value


def _whole(value: Any, where: str) -> int:
    number = value.get("as_int") if isinstance(value, dict) else None
    if type(number) is not int or number < 0:
        raise ModelError(f"a size of a stored tensor is {value!r}", where, "get the file again")
    return number
