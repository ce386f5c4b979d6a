"""Logit distillation from the context's teacher."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.passes.loop import digest_state, fit
from edgekit.schema.passes import DistillOptions


def distillation_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float, label_smoothing: float = 0.0
) -> Tensor:
    """(1 - alpha) * CE(student, labels) + alpha * tau^2 * KL(teacher || student), both softened by tau; a mean over N.

    Args:
        student: logits (N, C).
        teacher: logits (N, C).
        labels: (N,) int64.
        temperature: tau.

    Raises:
        PassError: student and teacher tell different numbers of classes.

    Source: Hinton, Vinyals and Dean, arXiv:1503.02531, section 2; the Kullback-Leibler form, zero where both agree.
    """
    if student.shape != teacher.shape:
        raise PassError(
            what=f"the student gives {tuple(student.shape)} logits and the teacher {tuple(teacher.shape)}",
            where="step distill",
            fix="use a teacher with the same classes",
        )
    soft_student = F.log_softmax(student.float() / temperature, dim=1)
    soft_teacher = F.log_softmax(teacher.float() / temperature, dim=1)
    divergence = F.kl_div(soft_student, soft_teacher, reduction="batchmean", log_target=True)
    hard = F.cross_entropy(student.float(), labels, label_smoothing=label_smoothing)
    return (1 - alpha) * hard + alpha * temperature**2 * divergence


def distill(model: Model, options: DistillOptions, context: Context) -> Model:
    """The model after learning from the teacher's logits on the same augmented inputs, and from the labels.

    Raises:
        PassError: there is no teacher or training split, the teacher tells other classes, or the loss is not finite.
    """
    teacher = copy.deepcopy(context.teacher().network).eval().requires_grad_(False)

    def loss(outputs: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            target = teacher.to(inputs.device)(inputs)
        return distillation_loss(outputs, target, labels, options.temperature, options.alpha, options.label_smoothing)

    network = copy.deepcopy(model.network)
    fit(network, options, loss, context, "distill", loss_digest=digest_state(teacher))
    return model.with_(network, "distill")
