"""Decoupled knowledge distillation: Zhao et al., arXiv:2203.08679, eq. 7, without its warm-up of 20 epochs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.passes.distill.method import Classroom, Lesson, Method, class_rows, without_target
from edgekit.schema.distill import DistillOptions, DkdOptions


def target_term(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """TCKD: tau^2 * KL of target class against the rest as a whole; (M, C), (M, C), (M,)."""
    return temperature**2 * F.kl_div(
        _target_or_not(student / temperature, target),
        _target_or_not(teacher / temperature, target),
        reduction="batchmean",
        log_target=True,
    )


def other_term(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """NCKD: tau^2 * KL among the other classes, as if the target were not there."""
    parts = [F.log_softmax(without_target(logits, target) / temperature, -1) for logits in (student, teacher)]
    return temperature**2 * F.kl_div(parts[0], parts[1], reduction="batchmean", log_target=True)


def _target_or_not(logits: Tensor, target: Tensor) -> Tensor:
    """Logarithms of the probability of the target and of all others together: (M, 2)."""
    of_target = logits.gather(-1, target[:, None])[:, 0]
    others = without_target(logits, target).logsumexp(-1)  # a difference 1 - p would lose all digits near 1
    return torch.stack([of_target, others], -1) - logits.logsumexp(-1, keepdim=True)


class Dkd(Method):
    """Cross-entropy + alpha * TCKD + beta * NCKD."""

    def __init__(self, options: DistillOptions, _classroom: Classroom) -> None:
        super().__init__()
        self._own = options.dkd or DkdOptions()

    def forward(self, lesson: Lesson) -> Tensor:
        """One number."""
        own, hard = self._own, lesson.hard()
        student, teacher, target = class_rows(lesson)
        assert teacher is not None
        by_target = own.alpha * target_term(student, teacher, target, own.temperature)
        return hard + by_target + own.beta * other_term(student, teacher, target, own.temperature)
