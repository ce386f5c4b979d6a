import math

import pytest
import torch
from torch import nn

from edgekit.errors import PassError
from edgekit.passes.distill import distill, distillation_loss
from edgekit.passes.loop import digest_state
from edgekit.schema.passes import DistillOptions

LOG_3 = math.log(3)


def test_loss_by_hand():
    # tau 2: student softened to (3/4, 1/4), teacher to (1/2, 1/2)
    student, teacher = torch.tensor([[2 * LOG_3, 0.0]]), torch.tensor([[7.0, 7.0]])
    divergence = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    cross_entropy = -math.log(9 / 10)  # not softened
    loss = distillation_loss(student, teacher, torch.tensor([0]), temperature=2.0, alpha=0.7)
    assert loss.item() == pytest.approx(0.3 * cross_entropy + 0.7 * 4 * divergence, rel=1e-6)


def test_loss_is_a_mean_over_samples_not_over_logits():
    student, teacher = torch.tensor([[LOG_3, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    divergence = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    loss = distillation_loss(student, teacher, torch.tensor([0, 1]), temperature=1.0, alpha=1.0)
    assert loss.item() == pytest.approx(divergence / 2, rel=1e-6)


def test_no_gradient_where_student_and_teacher_agree():
    student = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.zeros(5, dtype=torch.int64)
    distillation_loss(student, student.detach().clone(), labels, temperature=4.0, alpha=1.0).backward()
    assert student.grad.abs().max() < 1e-6
    student.grad = None
    distillation_loss(student, student.detach() + 3.0, labels, temperature=4.0, alpha=1.0).backward()
    assert student.grad.abs().max() < 1e-6  # logits matter up to a constant
    student.grad = None
    distillation_loss(student, -student.detach(), labels, temperature=4.0, alpha=1.0).backward()
    assert student.grad.abs().max() > 1e-2


def test_other_classes_are_refused():
    with pytest.raises(PassError) as error:
        distillation_loss(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64), 1.0, 0.5)
    assert "(2, 4)" in error.value.what


def _network(width: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 4))


def test_the_student_learns_what_only_the_teacher_knows(make_model, make_context, samples):
    teacher, student = make_model(_network(32, 1)), make_model(_network(16, 2))
    with torch.no_grad():
        teacher.network[4].weight *= 4  # decided answers, right or wrong
    before = digest_state(teacher.network), digest_state(student.network)
    data = samples(512)
    options = DistillOptions(epochs=15, batch_size=32, learning_rate=0.05, alpha=1.0, temperature=2.0)
    taught = distill(student, options, make_context(train=data, teacher=lambda: teacher))
    with torch.no_grad():
        answers = [model.network(data.inputs).argmax(1) for model in (teacher, taught, student)]
    assert (answers[0] == data.labels).float().mean() < 0.5  # the labels alone do not lead there
    assert (answers[1] == answers[0]).float().mean() > 0.85
    assert (answers[2] == answers[0]).float().mean() < 0.6
    assert (digest_state(teacher.network), digest_state(student.network)) == before
    assert teacher.network[4].weight.requires_grad
    assert taught.history == ("distill",)


def test_teacher_sees_the_batch_that_the_student_sees(make_model, make_context, samples):
    seen = []

    class Watched(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name = name
            self.linear = nn.Linear(64, 4)

        def forward(self, x):
            seen.append((self.name, x.clone(), self.training))
            return self.linear(x.flatten(1))

    teacher, student = make_model(Watched("teacher")), make_model(Watched("student"))
    seen.clear()
    options = DistillOptions(epochs=1, batch_size=8, augment=("flip", "shift"), shift_pixels=2)
    distill(student, options, make_context(train=samples(16), teacher=lambda: teacher))
    assert [(name, training) for name, _, training in seen] == [("student", True), ("teacher", False)] * 2
    assert torch.equal(seen[0][1], seen[1][1])
    assert torch.equal(seen[2][1], seen[3][1])
