"""MEAL V2: Shen and Savvides, arXiv:2009.08453. The mean of the teachers' answers is all that is learned from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.passes.distill.kd import difference, mean_log_probabilities
from edgekit.passes.distill.method import Classroom, Lesson, Method
from edgekit.schema.distill import DistillOptions, MealOptions

_NARROWER = 8  # the discriminator's widths: C, C / 8, C / 64, 2


def soft_cross_entropy(student: Tensor, teachers: Sequence[Tensor]) -> Tensor:
    """Cross-entropy against the mean of the teachers' probabilities, classes on the last axis."""
    told = mean_log_probabilities(teachers).exp()
    return -(told * F.log_softmax(student, -1)).sum(-1).mean()


def soft_binary_cross_entropy(student: Tensor, teachers: Sequence[Tensor]) -> Tensor:
    """The same of logits that each decide for themselves."""
    return F.binary_cross_entropy_with_logits(student, torch.stack([logits.sigmoid() for logits in teachers]).mean(0))


_TERMS: Mapping[str, Callable[[Tensor, Sequence[Tensor]], Tensor]] = {
    "cross_entropy": soft_cross_entropy,
    "bce": soft_binary_cross_entropy,
    "mse": lambda student, teachers: difference(student, teachers, 1),
    "reconstruction": lambda student, teachers: difference(student, teachers, 1),
}


class Discriminator(nn.Module):
    """Tells logits of the student from those of the teachers: three layers with ReLU, also after the last."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths = (classes, max(1, classes // _NARROWER), max(1, classes // _NARROWER**2), 2)
        pairs = itertools.pairwise(widths)
        self.layers = nn.Sequential(*(layer for pair in pairs for layer in (nn.Linear(*pair), nn.ReLU())))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Binary cross-entropy of saying (1, 0) of the student's logits (M, C) and (0, 1) of the teachers'.

        As published, the gradient that the student gets is not turned round: it is told to be told apart.
        """
        answers = self.layers(torch.cat([student, teacher]))
        right = torch.zeros_like(answers)
        right[: len(student), 0] = 1
        right[len(student) :, 1] = 1
        return F.binary_cross_entropy_with_logits(answers, right)


class Meal(Method):
    """Cross-entropy against the mean of the teachers' probabilities; no labels.

    With a discriminator, which is shown a single teacher's logits, or the logarithm of several teachers' mean.
    """

    def __init__(self, options: DistillOptions, classroom: Classroom) -> None:
        super().__init__()
        own = options.meal or MealOptions()
        self._term = _TERMS[options.loss]
        classes = classroom.student.outputs[0].shape[-1]
        self.discriminator = Discriminator(classes) if own.discriminator else None

    def forward(self, lesson: Lesson) -> Tensor:
        """One number."""
        loss = self._term(lesson.student, lesson.teachers)
        if self.discriminator is None:
            return loss
        one = len(lesson.teachers) == 1
        shown = lesson.teachers[0] if one else mean_log_probabilities(lesson.teachers)
        told_apart: Tensor = self.discriminator(lesson.student.flatten(0, -2), shown.flatten(0, -2))
        return loss + told_apart
