"""Golden values: worked out from the published code on these logits."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgekit.errors import PassError
from edgekit.passes.distill.method import Classroom, Lesson
from edgekit.passes.distill.uskd import Uskd, ranked_others, soft_targets
from edgekit.schema.distill import DistillOptions
from tests import nets

STUDENT = torch.tensor([[2.0, 1, 0, -1], [0, 0.5, 1, 1.5]])
WEAK = torch.tensor([[1.0, 0, 2, -1], [0, 0, 0.5, 0.2]])
TARGET = torch.tensor([0, 2])


def test_golden_values():
    assert soft_targets(STUDENT, TARGET).tolist() == pytest.approx([1.169224, 0.830776], abs=1e-6)
    others = ranked_others(STUDENT, WEAK, TARGET)
    assert others[0].tolist() == pytest.approx([0.3077, 0.4615, 0.2308], abs=1e-4)
    assert others[1].tolist() == pytest.approx([0.1579, 0.2105, 0.6316], abs=1e-4)


def test_the_loss_is_its_four_terms(make_model):
    network = nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.Conv2d(3, 2, 3, 2, 1), nn.Flatten(), nn.Linear(8, 4))
    own = {"alpha": 0.3, "beta": 0.2, "mu": 0.7, "tap": "0"}
    method = Uskd(DistillOptions(method="uskd", uskd=own), Classroom(make_model(network), ()))
    assert [(student.name, teacher) for student, teacher in method.taps] == [("0", None)]
    with torch.no_grad():
        method.weak.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]))
        method.weak.bias.copy_(torch.tensor([0.0, 0, 0, -1]))
    feature = WEAK[:, :3, None, None] + torch.tensor([[1.0, -1], [2, -2]])  # its means are the weak logits
    weak = torch.cat([WEAK[:, :3], torch.full((2, 1), -1.0)], 1)
    given = Lesson(STUDENT, (), ((feature, feature),), TARGET, lambda: F.cross_entropy(STUDENT, TARGET))
    logs = F.log_softmax(STUDENT, -1)
    by_target = -(torch.tensor([1.169224, 0.830776]) * logs[[0, 1], TARGET]).mean()
    kept = torch.stack([F.log_softmax(STUDENT[0, 1:], -1), F.log_softmax(STUDENT[1, [0, 1, 3]], -1)])
    by_others = -(ranked_others(STUDENT, weak, TARGET) * kept).sum(-1).mean()
    by_weak = F.cross_entropy(weak, TARGET, label_smoothing=0.1)
    expected = 0.863764 + 0.3 * by_target + 0.2 * by_others + 0.7 * by_weak
    assert method(given).item() == pytest.approx(expected.item(), abs=1e-5)


def test_the_weak_head_reads_the_last_but_one_stage_and_a_network_without_one_names_it():
    options = DistillOptions(method="uskd")
    method = Uskd(options, Classroom(nets.model(nets.TINY_CONV), ()))
    assert method.taps[0][0].name == "norm"
    assert (method.weak.in_features, method.weak.out_features) == (4, 3)
    with pytest.raises(PassError) as caught:
        Uskd(options, Classroom(nets.model(nets.TINY_RESIDUAL), ()))
    assert caught.value.where == "step distill, uskd.tap"
