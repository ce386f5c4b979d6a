"""Normalised knowledge distillation: Yang et al., arXiv:2303.13005, eq. 7, as its published code has it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from edgekit.passes.distill.method import Classroom, Lesson, Method, class_rows, without_target
from edgekit.schema.distill import DistillOptions, NkdOptions


def target_term(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy at the target alone, weighed by the teacher's probability of it; never softened."""
    told = F.softmax(teacher, -1).gather(-1, target[:, None])
    return -(told * F.log_softmax(student, -1).gather(-1, target[:, None])).mean()


def other_term(student: Tensor, teacher: Tensor, target: Tensor, gamma: float, temperature: float) -> Tensor:
    """gamma * tau^2 * cross-entropy among the other classes, each side normalised without the target.

    It is the teacher's entropy, not zero, where both agree; and does not depend on the target's logit.
    """
    told = F.softmax(without_target(teacher, target) / temperature, -1)
    given = F.log_softmax(without_target(student, target) / temperature, -1)
    return -gamma * temperature**2 * (told * given).sum(-1).mean()


class Nkd(Method):
    """Cross-entropy + the target's term + that of the others."""

    def __init__(self, options: DistillOptions, _classroom: Classroom) -> None:
        super().__init__()
        self._own = options.nkd or NkdOptions()

    def forward(self, lesson: Lesson) -> Tensor:
        """One number."""
        hard = lesson.hard()
        student, teacher, target = class_rows(lesson)
        assert teacher is not None
        others = other_term(student, teacher, target, self._own.gamma, self._own.temperature)
        return hard + target_term(student, teacher, target) + others
