"""The methods of distillation, by the name that a recipe gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgekit.passes.distill.attention import AttentionTransfer
from edgekit.passes.distill.dkd import Dkd
from edgekit.passes.distill.fitnets import Fitnets
from edgekit.passes.distill.kd import Kd
from edgekit.passes.distill.meal import Meal
from edgekit.passes.distill.method import Classroom, Method
from edgekit.passes.distill.mgd import Mgd
from edgekit.passes.distill.nkd import Nkd
from edgekit.passes.distill.relation import Rkd
from edgekit.passes.distill.uskd import Uskd
from edgekit.schema.distill import DistillOptions

METHODS: Mapping[str, Callable[[DistillOptions, Classroom], Method]] = {
    "kd": Kd,
    "dkd": Dkd,
    "nkd": Nkd,
    "uskd": Uskd,
    "fitnets": Fitnets,
    "at": AttentionTransfer,
    "rkd": Rkd,
    "mgd": Mgd,
    "meal": Meal,
}
