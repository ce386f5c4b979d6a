"""Masked generative distillation: Yang et al., arXiv:2205.01529, eq. 5."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.errors import PassError
from edgekit.passes.distill.kd import Kd
from edgekit.passes.distill.method import Classroom, Lesson, Method
from edgekit.passes.distill.regress import Regressor, pair_taps
from edgekit.passes.distill.taps import Tap
from edgekit.schema.distill import DistillOptions, MgdOptions


class Generator(nn.Module):
    """The teacher's features (N, C_t, H, W) out of the student's with places hidden: two 3x3 convolutions."""

    def __init__(self, student: Tap, teacher: Tap, mask_ratio: float) -> None:
        super().__init__()
        self._mask_ratio = mask_ratio
        self.align = Regressor(student, teacher)
        channels = teacher.channels
        self.generate = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, feature: Tensor) -> Tensor:
        """A place is hidden in all channels, and in every pass another."""
        aligned = self.align(feature)
        shown = torch.rand_like(aligned[:, :1]) >= self._mask_ratio
        generated: Tensor = self.generate(aligned * shown)
        return generated


class Mgd(Method):
    """The loss of kd + weight * the squared difference, summed over features and averaged over samples."""

    def __init__(self, options: DistillOptions, classroom: Classroom) -> None:
        super().__init__()
        own = options.mgd or MgdOptions()
        self._weight, self._outputs = own.weight, Kd(options, classroom)
        self.taps = pairs = pair_taps(classroom.student, classroom.teachers[0], own.taps, "mgd.taps", last=True)
        for _, teacher in pairs:
            if len(teacher.places) != 2:
                raise PassError(
                    f"the teacher's {teacher.name!r} gives {teacher.shape} a sample, and mgd generates pictures",
                    "step distill, mgd.taps",
                    "name modules that give (C, H, W), or set method: fitnets",
                )
        self.generators = nn.ModuleList(Generator(student, teacher, own.mask_ratio) for student, teacher in pairs)

    def forward(self, lesson: Lesson) -> Tensor:
        """One number."""
        terms = [
            F.mse_loss(generate(student), teacher, reduction="sum") / len(teacher)
            for generate, (student, teacher) in zip(self.generators, lesson.features, strict=True)
        ]
        outputs: Tensor = self._outputs(lesson)
        return outputs + self._weight * torch.stack(terms).sum()
