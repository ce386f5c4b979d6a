"""Distillation from the outputs of the context's teacher."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.nets.steps import on_samples
from edgekit.passes.context import Context
from edgekit.passes.loop import digest_state, fit
from edgekit.passes.losses import Inputs, find_loss, only_output
from edgekit.schema.distill import DistillOptions

TeacherTerm: TypeAlias = Callable[[Tensor, Tensor, float], Tensor]


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """tau^2 * KL(teacher || student), both softened by tau, classes on the last axis; a mean over all before it.

    Source: Hinton, Vinyals and Dean, arXiv:1503.02531, section 2; the Kullback-Leibler form, zero where both agree.
    """
    soft_student = F.log_softmax(student / temperature, dim=-1).flatten(0, -2)
    soft_teacher = F.log_softmax(teacher / temperature, dim=-1).flatten(0, -2)
    return temperature**2 * F.kl_div(soft_student, soft_teacher, reduction="batchmean", log_target=True)


def binary_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The same of logits that each decide for themselves, between yes and no; a mean over all of them."""
    pairs = [torch.stack([logits, torch.zeros_like(logits)], dim=-1) for logits in (student, teacher)]
    return divergence(pairs[0], pairs[1], temperature)


def difference(student: Tensor, teacher: Tensor, _temperature: float) -> Tensor:
    """Mean squared difference: of numbers there is nothing to soften."""
    return F.mse_loss(student, teacher)


# the loss of the labels -> what takes the teacher's outputs in place of them
TEACHER_TERMS: Mapping[str, TeacherTerm] = {
    "cross_entropy": divergence,
    "bce": binary_divergence,
    "mse": difference,
    "reconstruction": difference,
}


def distill(model: Model, options: DistillOptions, context: Context) -> Model:
    """The model after learning from the teacher's outputs on the same augmented inputs, and from the labels.

    (1 - alpha) * loss + alpha * the teacher's term.

    Raises:
        PassError: there is no teacher or training split, the teacher's outputs have another shape, or the loss is not
            finite or does not fit the outputs or the labels.
    """
    teaching = context.teacher()
    teacher = on_samples(teaching, copy.deepcopy(teaching.network)).eval().requires_grad_(False)
    hard, soft = find_loss(options.loss, "step distill", options.label_smoothing), TEACHER_TERMS[options.loss]

    def loss(outputs: Any, inputs: Inputs, labels: Tensor) -> Tensor:
        with torch.no_grad():
            told = only_output(teacher.to(labels.device)(*inputs), "step distill, teacher")
        given = only_output(outputs, f"step distill, loss {options.loss}")
        if given.shape != told.shape:
            raise PassError(
                what=f"the student gives {tuple(given.shape)} outputs and the teacher {tuple(told.shape)}",
                where="step distill",
                fix="use a teacher with the same classes",
            )
        term = soft(given, told, options.temperature)
        return (1 - options.alpha) * hard(outputs, inputs, labels) + options.alpha * term

    network = copy.deepcopy(model.network)
    fit(on_samples(model, network), options, loss, context, "distill", loss_digest=digest_state(teacher))
    return model.with_(network, "distill")
