"""Attention transfer, Zagoruyko and Komodakis, arXiv:1612.03928, eq. 2, of maps that sum squares over channels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.errors import PassError
from edgekit.passes.distill.kd import Kd
from edgekit.passes.distill.method import Classroom, Lesson, Method
from edgekit.passes.distill.regress import pair_taps, resize
from edgekit.schema.distill import AtOptions, DistillOptions


def attention_map(feature: Tensor, places: tuple[int, ...]) -> Tensor:
    """(N, C, ...) -> (N, number of places): where the feature is strong, in a size, of length 1 for each sample."""
    strength = feature.square().sum(1, keepdim=True)
    return F.normalize(resize(strength, places).flatten(1), dim=1)


class AttentionTransfer(Method):
    """The loss of kd + beta / 2 * the squared difference of each pair of maps.

    A mean over a map's places and the batch, as the paper divides its beta of 1,000 by their number.
    """

    def __init__(self, options: DistillOptions, classroom: Classroom) -> None:
        super().__init__()
        own = options.at or AtOptions()
        self._beta, self._outputs = own.beta, Kd(options, classroom)
        pairs = pair_taps(classroom.student, classroom.teachers[0], own.taps, "at.taps")
        for _, teacher in pairs:
            if not teacher.places:
                raise PassError(
                    f"the teacher's {teacher.name!r} gives {teacher.shape} a sample: a vector has no places",
                    "step distill, at.taps",
                    "name modules that give pictures or sequences, or set method: fitnets",
                )
        self.taps = pairs

    def forward(self, lesson: Lesson) -> Tensor:
        """One number."""
        terms = []
        for student, teacher in lesson.features:
            places = tuple(teacher.shape[2:])
            terms.append(F.mse_loss(attention_map(student, places), attention_map(teacher, places)))
        outputs: Tensor = self._outputs(lesson)
        return outputs + self._beta / 2 * torch.stack(terms).sum()
