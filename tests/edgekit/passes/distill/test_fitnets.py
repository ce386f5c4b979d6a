import pytest
import torch

from edgekit.passes.distill.fitnets import Fitnets
from edgekit.passes.distill.method import Classroom, Lesson
from edgekit.schema.distill import DistillOptions
from tests import nets


def test_the_loss_by_hand():
    model = nets.model(nets.TINY_CONV)
    options = DistillOptions(method="fitnets", alpha=0, fitnets={"weight": 10, "taps": {"norm": "norm"}})
    method = Fitnets(options, Classroom(model, (model,)))
    regress = method.regressors[0]
    with torch.no_grad():
        regress.linear.weight.copy_(2 * torch.eye(4))
        regress.linear.bias.fill_(1)
    student, teacher = torch.ones(2, 4, 8, 8), torch.ones(2, 4, 8, 8)
    logits = torch.zeros(2, 3)
    told = Lesson(logits, (logits,), ((student, teacher),), torch.tensor([0, 1]), lambda: torch.tensor(3.0))
    assert method(told).item() == pytest.approx(3 + 10 * (3 - 1) ** 2 / 2)  # 2 * 1 + 1 for 1


def test_stages_are_found_where_none_are_named():
    model = nets.model(nets.TINY_CONV)
    method = Fitnets(DistillOptions(method="fitnets"), Classroom(model, (model,)))
    assert [(one.name, other.name) for one, other in method.taps] == [("norm", "norm"), ("pointwise", "pointwise")]
