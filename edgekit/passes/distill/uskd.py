"""Universal self-knowledge distillation, without a teacher: Yang et al., arXiv:2303.13005, section 3.3."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.errors import PassError
from edgekit.passes.distill.method import Classroom, Lesson, Method, class_rows, vectors, without_target
from edgekit.passes.distill.taps import find_taps, name_taps
from edgekit.schema.distill import DistillOptions, UskdOptions

_SMOOTHING = 0.1  # of the weak head's labels, as published
_LEAST = 1e-6


def soft_targets(student: Tensor, target: Tensor) -> Tensor:
    """What the target's probability should be, (M,): 1, moved by how far its square lies from the batch's mean."""
    squares = F.softmax(student.detach(), -1).gather(-1, target[:, None])[:, 0] ** 2
    return squares + 1 - squares.mean()


def ranked_others(student: Tensor, weak: Tensor, target: Tensor) -> Tensor:
    """What the other classes' probabilities should be, (M, C - 1): Zipf's 1 / rank, normalised.

    The target keeps its place in the ranking, so that a gap appears where it stands.
    """
    scores = _score(F.softmax(student.detach(), -1), target) + _score(F.softmax(weak.detach(), -1), target)
    order = scores.argsort(stable=True, dim=-1, descending=True)
    ranks = order.argsort(-1) + 1
    others = without_target(1 / ranks, target)
    return others / others.sum(-1, keepdim=True)


def _score(probabilities: Tensor, target: Tensor) -> Tensor:
    return probabilities / (1 - probabilities.gather(-1, target[:, None]) + _LEAST)


class Uskd(Method):
    """Cross-entropy + alpha * soft target + beta * ranked others + mu * the weak head's own loss.

    The weak head reads the means over all places of a feature in the middle, of tokens too: a network here need not
    have a class token.
    """

    def __init__(self, options: DistillOptions, classroom: Classroom) -> None:
        super().__init__()
        self._own = options.uskd or UskdOptions()
        where = "step distill, uskd.tap"
        outputs = classroom.student.outputs
        if len(outputs) != 1 or len(outputs[0].shape) != 2:
            shapes = ", ".join(str(output.shape) for output in outputs)
            raise PassError(
                f"outputs {shapes}: uskd wants one row of logits a sample",
                "step distill, method uskd",
                "set method: kd",
            )
        if self._own.tap is not None:
            (tap,) = name_taps(classroom.student, [self._own.tap], where)
        else:
            found = find_taps(classroom.student)
            if len(found) < 2:
                fix = "name a module in the middle of the network: uskd: {tap: NAME}"
                raise PassError(f"{len(found)} stages are found, and the weak head reads the last but one", where, fix)
            tap = found[-2]
        self.taps = ((tap, None),)
        self.weak = nn.Linear(tap.channels, outputs[0].shape[-1])

    def forward(self, lesson: Lesson) -> Tensor:
        """One number."""
        own, hard = self._own, lesson.hard()
        student, _, target = class_rows(lesson)
        weak = self.weak(vectors(lesson.features[0][0]))
        by_target = -(soft_targets(student, target) * _at(F.log_softmax(student, -1), target)).mean()
        others = F.log_softmax(without_target(student, target), -1)
        by_others = -(ranked_others(student, weak, target) * others).sum(-1).mean()
        own_loss = F.cross_entropy(weak, target, label_smoothing=_SMOOTHING)
        return hard + own.alpha * by_target + own.beta * by_others + own.mu * own_loss


def _at(values: Tensor, target: Tensor) -> Tensor:
    return values.gather(-1, target[:, None])[:, 0]
