"""FitNets, Romero et al., arXiv:1412.6550, eq. 3, in one stage with the distillation of outputs, as it is done now."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.passes.distill.kd import Kd
from edgekit.passes.distill.method import Classroom, Lesson, Method
from edgekit.passes.distill.regress import Regressor, pair_taps
from edgekit.schema.distill import DistillOptions, FitnetsOptions


class Fitnets(Method):
    """The loss of kd + weight * half the mean squared difference of each pair of features, the student's regressed.

    A mean over elements, where the paper has a sum over them: the weight is then one for all sizes.
    """

    def __init__(self, options: DistillOptions, classroom: Classroom) -> None:
        super().__init__()
        own = options.fitnets or FitnetsOptions()
        self._weight, self._outputs = own.weight, Kd(options, classroom)
        pairs = pair_taps(classroom.student, classroom.teachers[0], own.taps, "fitnets.taps")
        self.taps = pairs
        self.regressors = nn.ModuleList(Regressor(student, teacher) for student, teacher in pairs)

    def forward(self, lesson: Lesson) -> Tensor:
        """One number."""
        terms = [
            F.mse_loss(regress(student), teacher) / 2
            for regress, (student, teacher) in zip(self.regressors, lesson.features, strict=True)
        ]
        outputs: Tensor = self._outputs(lesson)
        return outputs + self._weight * torch.stack(terms).sum()
