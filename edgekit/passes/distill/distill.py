"""The pass: a student learns from the context's teachers, or from itself, by one of the methods of the table."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.nets.steps import on_samples
from edgekit.passes.context import Context
from edgekit.passes.distill.chain import teach_chain
from edgekit.passes.distill.method import Classroom, Lesson
from edgekit.passes.distill.table import METHODS
from edgekit.passes.distill.taps import watched
from edgekit.passes.loop import digest_state, fit
from edgekit.passes.losses import Inputs, find_loss, only_output
from edgekit.passes.prune.group_norm import GroupPenalty
from edgekit.schema.distill import ENSEMBLES, TEACHER_FREE, DistillOptions
from edgekit.schema.distilled import DistillRow, TapPair


def distill(model: Model, options: DistillOptions, context: Context, table: Mapping[str, Any] = METHODS) -> Model:
    """The model after learning what the method takes from the teachers, on the same augmented inputs.

    What a method trains beside the student (regressors, a weak head, a discriminator) begins from the context's seed,
    is part of the checkpoints, and is dropped at the end: the network's structure stays as it was.

    Raises:
        PassError: there is no teacher or training split, or more teachers than the method takes; the outputs have
            another shape; no features are found; the loss is not finite or does not fit the outputs or the labels.
    """
    teaching = () if options.method in TEACHER_FREE else context.teachers()
    if len(teaching) > 1 and options.method not in ENSEMBLES:
        raise PassError(
            f"{len(teaching)} teachers, and method {options.method} learns from one",
            "step distill",
            f"set method to one of {', '.join(sorted(ENSEMBLES))}",
        )
    if options.method == "chain":  # several trainings, one after the other
        return teach_chain(model, teaching[0], options, context)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        method = table[options.method](options, Classroom(model, teaching))
    networks = [copy.deepcopy(teacher.network).eval().requires_grad_(False) for teacher in teaching]
    teachers = [on_samples(*pair).eval() for pair in zip(teaching, networks, strict=True)]
    hard = find_loss(options.loss, "step distill", options.label_smoothing)
    network = copy.deepcopy(model.network)
    looked = tuple(TapPair(student=one.name, teacher=other and other.name) for one, other in method.taps)

    own = options.group_sparsity
    penalty = None if own is None else GroupPenalty.of(model, network, own, "distill")
    with ExitStack() as hooks:
        of_student = hooks.enter_context(watched(network, [student for student, _ in method.taps]))
        looked_at = [teacher for _, teacher in method.taps if teacher is not None]
        of_teacher = hooks.enter_context(watched(networks[0], looked_at)) if looked_at else of_student

        def loss(outputs: Any, inputs: Inputs, labels: Tensor) -> Tensor:
            given = only_output(outputs, f"step distill, loss {options.loss}")
            mine = of_student()
            with torch.no_grad():
                told = tuple(
                    only_output(teacher.to(given.device)(*inputs), "step distill, teacher") for teacher in teachers
                )
                theirs = of_teacher() if looked_at else mine
            _check_shapes(given, told)
            pairs = tuple(zip(mine, theirs, strict=True))
            value: Tensor = method(Lesson(given, told, pairs, labels, lambda: hard(outputs, inputs, labels)))
            return value if penalty is None else value + penalty()

        whole = hashlib.sha256("".join(digest_state(one) for one in (*teachers, method)).encode()).hexdigest()
        fit(on_samples(model, network), options, loss, context, "distill", loss_digest=whole, parts=method)
    if looked:
        context.record(DistillRow(taps=looked))
    return model.with_(network, "distill")


def _check_shapes(given: Tensor, told: tuple[Tensor, ...]) -> None:
    for outputs in told:
        if given.shape != outputs.shape:
            raise PassError(
                what=f"the student gives {tuple(given.shape)} outputs and the teacher {tuple(outputs.shape)}",
                where="step distill",
                fix="use a teacher with the same classes",
            )
