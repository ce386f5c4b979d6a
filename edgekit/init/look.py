"""Looks at samples and at a network, in a process of its own: it runs the user's code and imports torch.

`python -m edgekit.init.look ANSWER` reads a Question from standard input and writes an Answer, or Trouble, to the file
ANSWER; what the user's code prints goes where it likes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.data.splits import find_data
from edgekit.data.table import find_loader
from edgekit.errors import DataError, EdgekitError, ModelError
from edgekit.init.facts import (
    FILE_KEYS,
    Answer,
    ArrayFacts,
    LabelFacts,
    NetworkFacts,
    PartFacts,
    Question,
    Trouble,
    Way,
)
from edgekit.init.ways import ways
from edgekit.nets.count import count_params
from edgekit.nets.load import build, construct, input_names
from edgekit.nets.model import Model
from edgekit.schema.recipe import Checkpoint, ModelSource
from edgekit.schema.tensors import DType, InputSpec

_LOOKED_AT = 256  # samples whose values are looked at
_FIELDS = ("state_dict", "model_state_dict", "model", "net")  # where training scripts keep weights in a file
_INTEGERS: Mapping[str, DType] = {"int64": "int64", "int32": "int32"}  # tokens stay so; all else becomes float32
_PREFIXES = ("", "module.", "model.")  # what wrappers put before every name


def look(question: Question) -> Answer:
    """What there is to know for a recipe.

    Raises:
        EdgekitError: data or network cannot be read, or the network does not take the samples.
    """
    parts = _parts(question)
    source, way = _fitting(question, parts[0].inputs)
    model = _with_checkpoint(question, source)
    network = NetworkFacts(
        inputs=model.inputs,
        way=way,
        outputs={output.name: output.shape for output in model.outputs},
        parameters=count_params(model.network),
        checkpoint=model.source.checkpoint,
    )
    return Answer(parts=parts, network=network)


def _parts(question: Question) -> tuple[PartFacts, ...]:
    found: dict[str, tuple[Any, Any]] = {}
    if question.data is not None:
        loaded = find_data(question.data)
        splits = {**vars(loaded.splits), "test": loaded.test}
        for name in ("train", "calibration", "selection", "test"):
            if splits[name] is not None:
                found[name] = splits[name].inputs, splits[name].labels
    else:
        where = f"loader {question.loader}"
        try:
            parts = find_loader(question.loader)(**question.arguments)
        except TypeError as err:
            raise DataError(f"the loader raised {err!r}", where, "check its arguments") from err
        found = {name: (part.inputs, part.labels) for name, part in parts.items()}
    return tuple(_part(name, inputs, np.asarray(labels)) for name, (inputs, labels) in found.items())


def _part(name: str, inputs: Any, labels: NDArray[Any]) -> PartFacts:
    arrays = [np.asarray(array) for array in (inputs if isinstance(inputs, tuple) else (inputs,))]
    if not len(labels):
        raise DataError("no samples", f"part {name}", "name a file that holds some")
    return PartFacts(
        name=name,
        count=len(labels),
        inputs=tuple(_array(array, f"part {name}") for array in arrays),
        labels=LabelFacts(
            kind="classes" if labels.dtype.kind in "iu" else "numbers",
            shape=labels.shape[1:],
            low=float(labels.min()),
            high=float(labels.max()),
            in_order=labels.ndim == 1 and bool((np.diff(labels) >= 0).all()) and bool(labels[0] != labels[-1]),
        ),
    )


def _array(array: NDArray[Any], where: str) -> ArrayFacts:
    seen = array[:_LOOKED_AT]
    if array.dtype.kind not in "iuf":
        raise DataError(f"inputs are {array.dtype}", where, "give numbers")
    if not np.isfinite(seen).all():
        raise DataError("an input is NaN or infinite", where, "remove such samples, or correct them")
    shape, name = array.shape[1:], str(array.dtype)
    return ArrayFacts(shape=shape, dtype=name, low=float(seen.min()), high=float(seen.max()))


def _fitting(question: Question, arrays: Sequence[ArrayFacts]) -> tuple[ModelSource, Way]:
    """The source with its inputs, and how the first one's samples become what it takes."""
    if question.file is not None:
        key = FILE_KEYS[Path(question.file).suffix]
        source = ModelSource.model_validate({key: question.file})
        inputs = build(source).inputs
        return source, _one_way(arrays[0], inputs[0].shape, f"model.{key}: {question.file}")
    assert question.factory is not None
    wanted = question.shapes or (None,) * len(arrays)
    tried, first = [], None
    for found in product(*(list(ways(a.shape, shape)) for a, shape in zip(arrays, wanted, strict=False))):
        source = _source(question, found, arrays)
        try:
            build(source)
        except ModelError as err:
            if "network does not take" not in err.what and not err.what.startswith("output "):
                raise  # of the factory itself: no other shape helps
            first = first or err
            tried.append(" and ".join(str(way.shape) for way in found))
            continue
        return source, found[0]
    shapes = " and ".join(str(array.shape) for array in arrays)
    if not tried:
        asked = " and ".join("x".join(map(str, shape)) for shape in question.shapes)
        fix = "images are resized, and nothing else: correct --input, or the samples"
        raise ModelError(f"samples of shape {shapes} cannot become {asked}", "--input", fix)
    reason = f": {first.what}" if first else ""
    channels = any(len(array.shape) == 2 for array in arrays)
    fix = "say what it takes, --input 1x3x32x32, or give the factory other arguments"
    fix += "; images need an axis of channels" if channels else ""
    raise ModelError(
        f"samples of shape {shapes} do not fit the network, tried as {', '.join(tried)}{reason}",
        f"model.factory: {question.factory}",
        fix,
    ) from first


def _one_way(array: ArrayFacts, shape: Sequence[int], where: str) -> Way:
    for way in ways(array.shape, shape):
        return way
    raise ModelError(
        f"samples of shape {array.shape} do not fit an input of {tuple(shape)}", where, "give samples that do"
    )


def _source(question: Question, found: Sequence[Way], arrays: Sequence[ArrayFacts]) -> ModelSource:
    names = _names(question, found)
    specs = (
        InputSpec(name=name, shape=way.shape, layout=way.layout, dtype=_INTEGERS.get(array.dtype, "float32"))
        for name, way, array in zip(names, found, arrays, strict=True)
    )
    return ModelSource(
        factory=question.factory, arguments=question.factory_arguments, inputs=tuple(specs), checkpoint=None
    )


def _names(question: Question, found: Sequence[Way]) -> list[str]:
    if len(found) == 1:
        return ["image" if len(found[0].shape) == 4 else "input"]
    probe = InputSpec(name="input", shape=found[0].shape)
    network = construct(ModelSource(factory=question.factory, arguments=question.factory_arguments, inputs=(probe,)))
    return input_names(network, len(found))


def _with_checkpoint(question: Question, source: ModelSource) -> Model:
    """The model with its weights, where the file holds them under one of the usual names."""
    if question.checkpoint is None:
        return build(source)
    first: EdgekitError | None = None
    for checkpoint in _checkpoints(question.checkpoint):
        try:
            return build(source.model_copy(update={"checkpoint": checkpoint}))
        except EdgekitError as err:
            first = first or err
    assert first is not None
    raise first


def _checkpoints(path: str) -> Iterator[Checkpoint]:
    for key, prefix in product((None, *_FIELDS), _PREFIXES):
        yield Checkpoint(path=path, key=key, strip_prefix=prefix)


def main() -> None:
    """One question, one answer."""
    question = Question.model_validate_json(sys.stdin.buffer.read())
    try:
        found: Answer | Trouble = look(question)
    except EdgekitError as err:
        found = Trouble(what=err.what, where=err.where, fix=err.fix)
    Path(sys.argv[1]).write_text(found.model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
