"""Whether data and network fit together, asked of every split before anything is trained: no build fails at its end."""

from __future__ import annotations

import numpy as np

from edgekit.data.samples import Samples
from edgekit.data.splits import LoadedData
from edgekit.errors import DataError
from edgekit.nets.model import Model
from edgekit.nets.steps import answer_specs, declared_states, sample_specs
from edgekit.pipeline.parity import SAMPLES
from edgekit.schema.recipe import Recipe

_OF_CLASSES = frozenset({"top1", "top5", "top_k", "per_class"})  # metrics whose labels count the network's outputs


def check_data(model: Model, data: LoadedData, recipe: Recipe) -> None:
    """Refuse data that the network or the metric cannot be given, and too few calibration samples.

    Raises:
        DataError: names the split, and of a wrong label the sample.
    """
    splits = {
        "train": data.splits.train,
        "calibration": data.splits.calibration,
        "selection": data.splits.selection,
        "test": data.test,
    }
    classes = _classes(model, recipe)
    for name, samples in splits.items():
        if samples is not None:
            where = f"data: {recipe.data}, {name}"
            check_samples(model, samples, where)
            if classes is not None:
                _check_labels(samples, classes, where)
    if len(data.splits.calibration) < SAMPLES:
        raise DataError(
            f"{len(data.splits.calibration)} calibration samples, and {SAMPLES} are the least",
            f"data: {recipe.data}, calibration",
            f"give it 64 or better 256: ranges are decided on them, and {SAMPLES} prove what an artifact answers",
        )


def check_samples(model: Model, samples: Samples, where: str) -> None:
    """Refuse samples that the network was not declared to take, before anything is trained or exported with them.

    Args:
        where: the recipe's data and the split, for the message.

    Raises:
        DataError: another number of inputs, shape or dtype.
    """
    place = f"{where}; model.inputs"
    specs = sample_specs(model.inputs)
    if len(specs) != len(samples.inputs):
        names = ", ".join(spec.name for spec in specs)
        raise DataError(
            f"a sample has {len(samples.inputs)} inputs, and the network takes {len(specs)}: {names}",
            place,
            "declare the inputs that the samples have, or give the network all of its inputs",
        )
    over_time = bool(declared_states(model.inputs))
    for spec, inputs in zip(specs, samples.inputs, strict=True):
        wanted, given = tuple(spec.shape[1:]), tuple(inputs.shape[1:])
        if wanted != (given[1:] if over_time else given):
            takes = f"{wanted} at each step of a sequence" if over_time else str(wanted)
            raise DataError(
                f"a sample is {given}, and input {spec.name!r} of the network takes {takes}",
                place,
                "correct model.inputs, the preprocessing of the calibration set, or choose other data",
            )
        dtype = str(inputs.dtype).removeprefix("torch.")
        if spec.dtype != dtype:
            raise DataError(
                f"a sample is {dtype}, and input {spec.name!r} of the network takes {spec.dtype}",
                place,
                f"set `dtype: {dtype}` in model.inputs, or `dtype: {spec.dtype}` in the preprocessing of the data",
            )


def _classes(model: Model, recipe: Recipe) -> int | None:
    """How many classes the metric tells apart by the network's own output; None where labels are something else."""
    if recipe.metric.name not in _OF_CLASSES or recipe.postprocess:
        return None
    found = [spec for spec in answer_specs(model) if recipe.metric.output in (None, spec.name)]
    return found[0].shape[-1] if len(found) == 1 and len(found[0].shape) > 1 else None


def _check_labels(samples: Samples, classes: int, where: str) -> None:
    labels = samples.labels.numpy()
    if labels.dtype.kind == "f":
        return  # the metric says so, with what to choose instead
    wrong = np.argwhere((labels < 0) | (labels >= classes))
    if len(wrong):
        first = tuple(wrong[0].tolist())
        raise DataError(
            f"label {labels[first]} of sample {first[0]}, and the network answers {classes} classes, from 0 on",
            where,
            "correct the label, or give the network an output for every class",
        )
