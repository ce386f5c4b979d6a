"""What a method of distillation is: a loss of one batch, with parts of its own that are trained with the student."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from edgekit.nets.model import Model
from edgekit.passes.distill.taps import Tap


@dataclass(frozen=True)
class Classroom:
    """Who learns from whom.

    Attributes:
        teachers: one, or several for a method that takes them; none for one that needs none.
    """

    student: Model
    teachers: tuple[Model, ...]


@dataclass(frozen=True)
class Lesson:
    """One batch as student and teachers saw it. All in float32, whatever they compute in.

    Attributes:
        student: outputs of the student, (N, ..., C).
        teachers: outputs of each teacher in the same shape, without gradients.
        features: student's and teacher's at each pair of taps, (N, C, ...), channels on the second axis; a pair whose
            teacher is not looked at holds the student's twice.
        labels: as the data have them.
        hard: the loss of the labels, worked out when it is called.
    """

    student: Tensor
    teachers: tuple[Tensor, ...]
    features: tuple[tuple[Tensor, Tensor], ...]
    labels: Tensor
    hard: Callable[[], Tensor]


class Method(nn.Module):
    """A loss. What parameters it has are trained with the student, saved with it, and dropped at the end.

    Attributes:
        taps: modules to look at, student's and teacher's; no teacher's where only the student's is wanted.
    """

    taps: tuple[tuple[Tap, Tap | None], ...] = ()

    def forward(self, lesson: Lesson) -> Tensor:
        """One number, a mean over the batch."""
        raise NotImplementedError


def class_rows(lesson: Lesson) -> tuple[Tensor, Tensor | None, Tensor]:
    """Logits of the student and of the one teacher, (M, C), and classes (M,), of every place that has a label.

    The hard loss is what checks labels: call it first.
    """
    counted = lesson.labels.flatten() >= 0
    teacher = lesson.teachers[0].flatten(0, -2)[counted] if lesson.teachers else None
    return lesson.student.flatten(0, -2)[counted], teacher, lesson.labels.flatten()[counted]


def without_target(logits: Tensor, target: Tensor) -> Tensor:
    """Logits (M, C) without that of the target (M,): (M, C - 1), in order."""
    others = nn.functional.one_hot(target, logits.shape[-1]) == 0
    return logits[others].view(len(logits), -1)


def vectors(feature: Tensor) -> Tensor:
    """(N, C, ...) -> (N, C): means over all places."""
    return feature.flatten(2).mean(-1) if feature.dim() > 2 else feature
