import pytest
import torch
from torch.nn import functional as F

from edgekit.passes.distill.dkd import Dkd, other_term, target_term
from edgekit.passes.distill.method import Lesson
from edgekit.schema.distill import DistillOptions

DRAW = torch.Generator().manual_seed(1)
STUDENT, TEACHER = torch.randn(1, 5, generator=DRAW), 2 * torch.randn(1, 5, generator=DRAW)
TARGET = torch.tensor([3])


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_target_and_others_are_the_two_parts_of_the_divergence(temperature):
    """Eq. 6 of the paper: KL = TCKD + (1 - the teacher's probability of the target) * NCKD."""
    soft = [F.log_softmax(logits / temperature, -1) for logits in (STUDENT, TEACHER)]
    whole = temperature**2 * F.kl_div(soft[0], soft[1], reduction="batchmean", log_target=True)
    others = 1 - soft[1].exp()[0, 3]
    parts = target_term(STUDENT, TEACHER, TARGET, temperature), other_term(STUDENT, TEACHER, TARGET, temperature)
    assert (parts[0] + others * parts[1]).item() == pytest.approx(whole.item(), rel=1e-5)
    assert min(part.item() for part in parts) > 1e-3


def test_the_target_alone_by_hand():
    # student (3/4, 1/4), teacher (1/2, 1/2): nothing is left among one other class
    student, teacher, target = torch.tensor([[3.0, 1.0]]).log(), torch.zeros(1, 2), torch.tensor([0])
    expected = 0.5 * torch.tensor([0.5 / 0.75, 0.5 / 0.25]).log().sum().item()
    assert target_term(student, teacher, target, 1.0).item() == pytest.approx(expected, rel=1e-6)
    assert other_term(student, teacher, target, 1.0).item() == 0


def test_both_are_weighed_and_labels_count_whole():
    told = Lesson(STUDENT, (TEACHER,), (), TARGET, lambda: torch.tensor(5.0))
    options = DistillOptions(method="dkd", dkd={"alpha": 2.0, "beta": 3.0, "temperature": 4.0})
    expected = 5 + 2 * target_term(STUDENT, TEACHER, TARGET, 4.0) + 3 * other_term(STUDENT, TEACHER, TARGET, 4.0)
    assert Dkd(options, None)(told).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_student_that_is_certain_has_finite_gradients():
    student = torch.tensor([[100.0, -100, 0, 0]]).requires_grad_()
    teacher = torch.tensor([[-100.0, 100, 0, 0]])
    loss = target_term(student, teacher, torch.tensor([0]), 1.0) + other_term(student, teacher, torch.tensor([0]), 1.0)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()
