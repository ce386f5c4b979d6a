"""Distillation of outputs: Hinton, Vinyals and Dean, arXiv:1503.02531, section 2; of several teachers their mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.passes.distill.method import Classroom, Lesson, Method
from edgekit.schema.distill import DistillOptions

TeacherTerm: TypeAlias = Callable[[Tensor, Sequence[Tensor], float], Tensor]


def mean_log_probabilities(teachers: Sequence[Tensor], temperature: float = 1.0) -> Tensor:
    """Logarithm of the mean of the teachers' probabilities, not the probabilities of their mean logits."""
    each = torch.stack([F.log_softmax(logits / temperature, dim=-1) for logits in teachers])
    return torch.logsumexp(each, 0) - math.log(len(teachers))


def divergence(student: Tensor, teachers: Sequence[Tensor], temperature: float) -> Tensor:
    """tau^2 * KL(teachers || student), softened by tau, classes on the last axis; a mean over all before it.

    The Kullback-Leibler form, zero where both agree.
    """
    soft_student = F.log_softmax(student / temperature, dim=-1).flatten(0, -2)
    soft_teacher = mean_log_probabilities(teachers, temperature).flatten(0, -2)
    return temperature**2 * F.kl_div(soft_student, soft_teacher, reduction="batchmean", log_target=True)


def binary_divergence(student: Tensor, teachers: Sequence[Tensor], temperature: float) -> Tensor:
    """The same of logits that each decide for themselves, between yes and no; a mean over all of them."""
    pairs = [torch.stack([logits, torch.zeros_like(logits)], dim=-1) for logits in (student, *teachers)]
    return divergence(pairs[0], pairs[1:], temperature)


def difference(student: Tensor, teachers: Sequence[Tensor], _temperature: float) -> Tensor:
    """Mean squared difference to the teachers' mean: of numbers there is nothing to soften."""
    return F.mse_loss(student, torch.stack(list(teachers)).mean(0))


# the loss of the labels -> what takes the teachers' outputs in place of them
TEACHER_TERMS: Mapping[str, TeacherTerm] = {
    "cross_entropy": divergence,
    "bce": binary_divergence,
    "mse": difference,
    "reconstruction": difference,
}


class Kd(Method):
    """(1 - alpha) * the loss of the labels + alpha * the teachers' term. A term of weight 0 is not worked out."""

    def __init__(self, options: DistillOptions, _classroom: Classroom) -> None:
        super().__init__()
        self._alpha, self._temperature = options.alpha, options.temperature
        self._soft = TEACHER_TERMS[options.loss]

    def forward(self, lesson: Lesson) -> Tensor:
        """One number."""
        terms = []
        if self._alpha < 1:
            terms.append((1 - self._alpha) * lesson.hard())
        if self._alpha > 0:
            terms.append(self._alpha * self._soft(lesson.student, lesson.teachers, self._temperature))
        return torch.stack(terms).sum()
