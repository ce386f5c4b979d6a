"""The record of a rewrite that only scales channels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from edgekit.passes.equalise.channels import members
from edgekit.passes.equalise.task import Rewrite, Task, Tensors


def scaling(task: Task, tensors: Tensors, factors: Tensor, left: Mapping[str, str] | None = None) -> Rewrite:
    """A rewrite by `factors`, (number of classes,), with every layer that a blocked channel left as it was.

    Args:
        left: layers that were left for another reason.
    """
    reasons = {
        site.layer: task.flow.reasons[one]
        for site in task.flow.sites
        if site.role == "source"
        for one in members(site.classes)
        if one in task.flow.reasons
    }
    with_zero = torch.cat((factors, torch.ones(1, dtype=factors.dtype)))  # the last one is for what is zero anyway
    changed = {
        name: with_zero[classes] for name, classes in task.flow.classes.items() if bool((with_zero[classes] != 1).any())
    }
    return Rewrite(tensors, changed, {**reasons, **(left or {})})
