import math

import pytest
import torch

from edgekit.passes.distill.kd import TEACHER_TERMS, divergence, mean_log_probabilities
from edgekit.schema.losses import LOSS_NAMES

LOG_3 = math.log(3)


def term(loss, student, teacher, temperature=1.0):
    return TEACHER_TERMS[loss](torch.tensor(student), [torch.tensor(teacher)], temperature).item()


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
        TEACHER_TERMS[loss](student, [teacher], 4.0).backward()
        assert student.grad.abs().max() < 1e-6
    student.grad = None
    TEACHER_TERMS[loss](student, [-student.detach()], 4.0).backward()
    assert student.grad.abs().max() > 1e-2


def test_the_softened_gradient_keeps_its_size():
    """tau^2 takes back what softening takes away."""
    draw = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(8, 10, generator=draw).requires_grad_(), torch.randn(8, 10, generator=draw)
    sizes = []
    for temperature in (1.0, 4.0, 16.0):
        student.grad = None
        divergence(student, [teacher], temperature).backward()
        sizes.append(student.grad.norm().item())
    assert max(sizes) < 1.3 * min(sizes)


def test_several_teachers_are_a_mean_of_probabilities_not_of_logits():
    # softmax (9/10, 1/10) and (1/2, 1/2) -> (7/10, 3/10); the mean of the logits would give (3/4, 1/4)
    teachers = [torch.tensor([[2 * LOG_3, 0.0]]), torch.tensor([[0.0, 0.0]])]
    assert mean_log_probabilities(teachers).exp()[0].tolist() == pytest.approx([0.7, 0.3], rel=1e-6)
    # softened by 2: (3/4, 1/4) and (1/2, 1/2) -> (5/8, 3/8)
    assert mean_log_probabilities(teachers, 2.0).exp()[0].tolist() == pytest.approx([0.625, 0.375], rel=1e-6)
    student = torch.tensor([[math.log(7 / 3), 0.0]])
    assert divergence(student, teachers, 1.0).item() == pytest.approx(0.0, abs=1e-7)
    assert TEACHER_TERMS["mse"](torch.tensor([[1.0]]), [torch.tensor([[2.0]]), torch.tensor([[6.0]])], 1.0) == 9.0
