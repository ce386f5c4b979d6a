"""From a calibration set to samples: load, cut out the splits, refuse any that overlap, preprocess, digest."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from edgekit.agent.errors import AgentError
from edgekit.agent.preprocess import preprocess
from edgekit.data.checks import check_finite, check_named_classes, checked_parts
from edgekit.data.loaders.files import Parts
from edgekit.data.order import sample_order
from edgekit.data.samples import RawSamples, Samples, Splits
from edgekit.data.table import LOADERS, Loader, find_loader
from edgekit.errors import DataError, EdgekitError
from edgekit.schema.calibration import CalibrationSet, Split
from edgekit.schema.find import suggest
from edgekit.schema.load import load_calibration
from edgekit.schema.reference import check_arguments, import_function
from edgekit.schema.tensors import DType, Preprocess, Resize

# calibration may come from the training split: it decides ranges, it judges nothing
_MAY_SHARE = ({"train", "calibration"},)
_USER_PARTS = ("train", "calibration", "selection", "test")


@dataclass(frozen=True)
class LoadedData:
    """A calibration set in memory.

    Attributes:
        calibration: what was loaded; holds the preprocessing from `raw_test` to `test`.
        splits: what passes may read.
        test: preprocessed; read once every choice is frozen.
        raw_test: the same samples as stored, for a board that preprocesses itself.
        digest: sha256 over the contents of every split and the preprocessing, hexadecimal.
    """

    calibration: CalibrationSet
    splits: Splits
    test: Samples
    raw_test: RawSamples
    digest: str


def find_data(name: str, loaders: Mapping[str, Loader] = LOADERS) -> LoadedData:
    """What `data:` of a recipe names: a calibration set, a path to one, or the user's own function.

    The user's function takes nothing and returns a dict of parts: `calibration`, `test`, and where there are such
    `train` and `selection`; each is a pair: inputs (N, ...) as the network takes them, one array or a tuple with one
    for each input, and labels (N, ...), integers or floats. Inputs of int32 and int64, such as tokens, stay integers.

    Raises:
        SchemaError: no such calibration set, or one that its schema refuses.
        DataError: the data are absent or not what was declared, or splits overlap.
    """
    if ":" in name:
        return _from_function(name)
    return load_splits(load_calibration(name).calibration, loaders)


def load_splits(calibration: CalibrationSet, loaders: Mapping[str, Loader] = LOADERS) -> LoadedData:
    """The samples of a calibration set.

    Raises:
        DataError: the data are absent or not what was declared, a split is empty or outside its part, two splits
            share a sample (train and calibration may), or the preprocessing does not fit the samples.
    """
    where = f"calibration set {calibration.name}"
    loader = find_loader(calibration.loader, f"{where}, loader", loaders)
    arguments = dict(calibration.arguments)
    if calibration.classes and "classes" not in arguments and "classes" in _parameters(loader):
        arguments["classes"] = calibration.classes
    check_arguments(loader, arguments, f"loader {calibration.loader}", f"{where}, arguments", DataError)
    try:
        parts = loader(**arguments)
    except EdgekitError:
        raise
    except Exception as err:  # a user's loader may raise anything; ours raise what wrong kinds of arguments lead to
        raise DataError(
            f"the loader raised {err!r}",
            f"{where}, loader {calibration.loader}",
            "check `arguments` against the loader",
        ) from err
    return _cut(_with_raw_resize(calibration), checked_parts(parts, where), where)


def _parameters(loader: Loader) -> Collection[str]:
    try:
        return inspect.signature(loader).parameters
    except (TypeError, ValueError):  # written in C
        return ()


def _with_raw_resize(calibration: CalibrationSet) -> CalibrationSet:
    """The set; its preprocessing says what a loader did to images of several sizes, as whoever deploys must do."""
    asked = calibration.arguments.get("resize")
    if asked is None or ":" in calibration.loader:
        return calibration
    spec = calibration.preprocess.model_copy(update={"raw_resize": Resize.model_validate(asked)})
    return calibration.model_copy(update={"preprocess": spec})


def split_indices(split: Split, length: int, where: str) -> range:
    """Places of a split within a part of `length` samples.

    Raises:
        DataError: there are fewer samples than the split asks for.
    """
    if split.share is not None:
        first, last = (round(share * length) for share in split.share)
        if first == last:
            raise DataError(
                f"no samples in share {split.share[0]:g} to {split.share[1]:g} of the {length} of part {split.part!r}",
                where,
                "give the part more samples, or the split a larger share",
            )
        return range(first, last, split.step)
    indices = range(length)[split.start :: split.step]
    if split.count is not None:
        if len(indices) < split.count:
            raise DataError(
                f"{split.count} samples from {split.start} by {split.step}; {split.part!r} has {len(indices)}",
                where,
                "lower count, start or step",
            )
        indices = indices[: split.count]
    if not indices:
        fix = "lower start" if length else "give it samples, or name another part"
        raise DataError(f"no samples from {split.start} on in part {split.part!r} of {length}", where, fix)
    return indices


def _from_function(reference: str) -> LoadedData:
    where = f"data: {reference}"
    try:
        result = import_function(reference, "data", DataError)()
    except EdgekitError:
        raise
    except Exception as err:  # a user's function may raise anything
        raise DataError(
            f"the function raised {err!r}", where, "make it return its parts when called with nothing"
        ) from err
    parts = checked_parts(result, where)
    for needed in ("calibration", "test"):
        if needed not in parts:
            raise DataError(f"no part {needed!r}", where, f"return a dict with parts {', '.join(_USER_PARTS)}")
    for part in parts:
        if part not in _USER_PARTS:
            raise DataError(f"unknown part {part!r}", where, suggest(part, _USER_PARTS, "parts"))
    first, *others = (_as_given(array.dtype, where) for array in parts["test"].inputs)
    calibration = CalibrationSet(
        name="own-data",
        loader=reference,
        preprocess=first,
        preprocess_others=tuple(others),
        train=Split(part="train") if "train" in parts else None,
        calibration=Split(part="calibration"),
        selection=Split(part="selection") if "selection" in parts else None,
        test=Split(part="test"),
    )
    return _cut(calibration, parts, where)


def _as_given(dtype: np.dtype[Any], where: str) -> Preprocess:
    """Of inputs that a network takes as they are."""
    if str(dtype) not in get_args(DType):
        raise DataError(f"inputs are {dtype}", where, f"give one of {', '.join(get_args(DType))}")
    name = cast(DType, str(dtype))
    return Preprocess(raw_dtype=name, raw_layout="N", dtype=name if name in ("int32", "int64") else "float32")


def _cut(calibration: CalibrationSet, parts: Parts, where: str) -> LoadedData:
    wanted = {
        name: cast(Split | None, getattr(calibration, name)) for name in ("train", "calibration", "selection", "test")
    }
    splits = {name: split for name, split in wanted.items() if split is not None}
    for name, split in splits.items():
        if split.part not in parts:
            raise DataError(f"no part {split.part!r}", f"{where}, {name}", suggest(split.part, sorted(parts), "parts"))
    indices = {name: split_indices(s, len(parts[s.part]), f"{where}, {name}") for name, s in splits.items()}
    for one, other in combinations(splits, 2):
        if splits[one].part != splits[other].part or {one, other} in _MAY_SHARE:
            continue
        shared = sorted(set(indices[one]) & set(indices[other]))
        if shared:
            raise DataError(
                f"{one} and {other} share {len(shared)} samples, the first at index {shared[0]}",
                f"{where}, part {splits[one].part}",
                "change start, count, step or share so that no sample is in both",
            )
    orders = {part: _order(calibration, parts[part], where) for part in {split.part for split in splits.values()}}
    raw = {}
    for name, split in splits.items():
        places, order = indices[name], orders[split.part]
        origin = places if order is None else order[places].tolist()
        place = f"{where}, {name}: part {split.part}"
        raw[name] = parts[split.part].take(_slice(places) if order is None else order[places])
        check_finite(raw[name], origin, place)
        check_named_classes(raw[name], calibration.classes, origin, place)
    specs = [spec.model_dump() for spec in calibration.preprocesses]
    ready = {name: _preprocess(specs, samples, f"{where}, {name}") for name, samples in raw.items()}
    digests = {name: _digest(samples) for name, samples in raw.items()}
    return LoadedData(
        calibration=calibration,
        splits=Splits(
            train=ready.get("train"),
            calibration=ready["calibration"],
            selection=ready.get("selection"),
            digest=_combine({name: digests[name] for name in digests if name != "test"}, specs),
            choose=calibration.choose,
        ),
        test=ready["test"],
        raw_test=raw["test"],
        digest=_combine(digests, specs),
    )


def _slice(places: range) -> slice:
    return slice(places.start, places.stop, places.step)  # a view: as stored, nothing is copied


def _order(calibration: CalibrationSet, part: RawSamples, where: str) -> NDArray[np.int64] | None:
    if calibration.order == "stored":
        return None
    return sample_order(calibration.order, calibration.order_seed, part.labels, where)


def _preprocess(specs: Sequence[Mapping[str, Any]], raw: RawSamples, where: str) -> Samples:
    if len(specs) != len(raw.inputs):
        raise DataError(
            f"{len(raw.inputs)} inputs for a sample, and preprocessing for {len(specs)}",
            where,
            "give preprocess_others one entry for each input after the first",
        )
    try:
        inputs = tuple(preprocess(spec, array) for spec, array in zip(specs, raw.inputs, strict=True))
    except AgentError as err:
        raise DataError(err.what, f"{where}, {err.where}", err.fix) from err
    return Samples(tuple(map(torch.from_numpy, inputs)), torch.from_numpy(raw.labels.copy()))


def _digest(raw: RawSamples) -> str:
    digest = hashlib.sha256()
    for array in (*raw.inputs, raw.labels):
        digest.update(f"{array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _combine(digests: Mapping[str, str], specs: Sequence[Mapping[str, Any]]) -> str:
    content = json.dumps({"preprocess": specs, "splits": digests}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()
