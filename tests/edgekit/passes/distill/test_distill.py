import math

import pytest
import torch
from torch import nn

from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.passes.distill.distill import TEACHER_TERMS, distill
from edgekit.passes.loop import digest_state
from edgekit.schema.distill import DistillOptions
from edgekit.schema.losses import LOSS_NAMES

LOG_3 = math.log(3)


def term(loss, student, teacher, temperature=1.0):
    return TEACHER_TERMS[loss](torch.tensor(student), torch.tensor(teacher), temperature).item()


def test_every_loss_has_a_teachers_term():
    assert set(TEACHER_TERMS) == set(LOSS_NAMES)


def test_the_teachers_term_by_hand():
    # tau 2: student softened to (3/4, 1/4), teacher to (1/2, 1/2)
    divergence = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert term("cross_entropy", [[2 * LOG_3, 0.0]], [[7.0, 7.0]], 2.0) == pytest.approx(4 * divergence, rel=1e-6)
    assert term("bce", [[2 * LOG_3]], [[0.0]], 2.0) == pytest.approx(4 * divergence, rel=1e-6)
    assert term("mse", [[1.0, 2.0]], [[4.0, 2.0]], 2.0) == pytest.approx(4.5)


def test_the_teachers_term_is_a_mean_over_samples_not_over_logits():
    student, teacher = [[LOG_3, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]
    divergence = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert term("cross_entropy", student, teacher) == pytest.approx(divergence / 2, rel=1e-6)
    assert term("cross_entropy", [student], [teacher]) == pytest.approx(divergence / 2, rel=1e-6)  # two tokens


@pytest.mark.parametrize("loss", TEACHER_TERMS)
def test_no_gradient_where_student_and_teacher_agree(loss):
    student = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    same = [student.detach().clone()] + (
        [student.detach() + 3.0] if loss == "cross_entropy" else []
    )  # up to a constant
    for teacher in same:
        student.grad = None
        TEACHER_TERMS[loss](student, teacher, 4.0).backward()
        assert student.grad.abs().max() < 1e-6
    student.grad = None
    TEACHER_TERMS[loss](student, -student.detach(), 4.0).backward()
    assert student.grad.abs().max() > 1e-2


def test_labels_and_teacher_are_weighed_by_alpha(make_model, make_context):
    """What a network of one number learns between two that it is told."""
    model, teacher = make_model(nn.Linear(1, 1), (1, 1)), make_model(nn.Linear(1, 1), (1, 1))
    with torch.no_grad():
        model.network.weight.fill_(0.5)
        model.network.bias.fill_(0.0)
        teacher.network.weight.fill_(0.0)
        teacher.network.bias.fill_(2.0)
    data = Samples((torch.randn((64, 1), generator=torch.Generator().manual_seed(0)),), torch.full((64, 1), 6.0))
    options = DistillOptions(epochs=30, batch_size=32, learning_rate=0.1, alpha=0.75, loss="mse", weight_decay=0)
    taught = distill(model, options, make_context(train=data, calibration=data, teacher=lambda: teacher))
    assert taught.network.bias.item() == pytest.approx(0.25 * 6 + 0.75 * 2, abs=0.02)


def test_other_classes_are_refused(make_model, make_context, samples):
    student, teacher = (make_model(nn.Sequential(nn.Flatten(), nn.Linear(64, classes))) for classes in (4, 3))
    with pytest.raises(PassError) as error:
        distill(student, DistillOptions(epochs=1), make_context(train=samples(64), teacher=lambda: teacher))
    assert "(64, 3)" in error.value.what


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
        answers = [model.network(data.inputs[0]).argmax(1) for model in (teacher, taught, student)]
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
