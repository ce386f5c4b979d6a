"""Whether a rewrite kept the function, activation by activation, in float64."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from edgekit.passes.equalise.task import Rewrite, Run, Task, Tensors, one_by_one
from edgekit.passes.equality import EXACT_RATIO, doubled, refuse_difference, relative_error

_SAMPLES = 4


def prove(task: Task, before: Tensors, rewrite: Rewrite, method: str) -> None:
    """Compare the program with the tensors `before` and those after, on random inputs and on calibration samples.

    Every activation must be what it was, times the factor that the rewrite gave it, to 1e-9 of its largest value. So
    the first one that is not names the layer.

    Raises:
        PassError: one is not.
    """
    for label, inputs in _feeds(task, random_inputs=rewrite.always):
        old: dict[str, Tensor] = {}
        new: dict[str, Tensor] = {}
        with torch.no_grad():
            for tensors, found in ((before, old), (rewrite.tensors, new)):
                Run(task.program, tensors, found.__setitem__, torch.float64).run(*inputs)
        for name, value in old.items():
            factor = rewrite.factors.get(name, torch.ones(()))
            if factor is None or not value.is_floating_point() or not value.numel():
                continue
            where = f"{method}, activation {name} on {label}"
            refuse_difference(relative_error(value, new[name] / factor), "equalise", where, torch.float64, EXACT_RATIO)


def _feeds(task: Task, *, random_inputs: bool) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    if random_inputs:
        for seed in range(_SAMPLES):
            yield "random inputs", doubled(task.model.example(1, seed))
    for inputs in one_by_one(task.context.splits.calibration.head(_SAMPLES)):
        yield "a calibration sample", doubled(inputs)
