"""Relational knowledge distillation: Park et al., arXiv:1904.05068, eq. 5 to 9. Dimensions need not agree."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.passes.distill.kd import Kd
from edgekit.passes.distill.method import Classroom, Lesson, Method, vectors
from edgekit.passes.distill.regress import pair_taps
from edgekit.schema.distill import DistillOptions, RkdOptions

_LEAST = 1e-12


def distances(points: Tensor) -> Tensor:
    """(N, D) -> (N, N): Euclidean distances as parts of the mean of those that are not zero."""
    squares = points.square().sum(1)
    between = (squares[:, None] + squares[None] - 2 * points @ points.T).clamp(min=_LEAST).sqrt()
    between = between * (1 - torch.eye(len(points), device=points.device))
    return between / between.sum().clamp(min=_LEAST) * (between > 0).sum()


def angles(points: Tensor) -> Tensor:
    """(N, D) -> (N, N, N): cosine of the angle at sample i between samples j and k."""
    directions = F.normalize(points[None] - points[:, None], dim=2)  # (i, j): from i to j
    return directions @ directions.transpose(1, 2)


class Rkd(Method):
    """The loss of kd + Huber losses of distances and angles between the samples of a batch.

    Features are means over all places. Where a batch is shared by processes, relations are those within a share.
    """

    def __init__(self, options: DistillOptions, classroom: Classroom) -> None:
        super().__init__()
        own = options.rkd or RkdOptions()
        self._own, self._outputs = own, Kd(options, classroom)
        teacher = classroom.teachers[0]
        self.taps = pair_taps(classroom.student, teacher, own.taps, "rkd.taps", last=True, same_kind=False)

    def forward(self, lesson: Lesson) -> Tensor:
        """One number."""
        student, teacher = map(vectors, lesson.features[0])
        by_distance = F.smooth_l1_loss(distances(student), distances(teacher))
        by_angle = F.smooth_l1_loss(angles(student), angles(teacher))
        outputs: Tensor = self._outputs(lesson)
        return outputs + self._own.distance * by_distance + self._own.angle * by_angle
