"""Golden values: worked out from the published code on these logits."""

import pytest
import torch
from torch.nn import functional as F

from edgekit.passes.distill.method import Lesson
from edgekit.passes.distill.nkd import Nkd, other_term, target_term
from edgekit.schema.distill import DistillOptions, NkdOptions

STUDENT = torch.tensor([[2.0, 1, 0, -1], [0, 0.5, 1, 1.5]])
TEACHER = torch.tensor([[3.0, 1, 0.5, -1], [0, 1, 3, 1]])
TARGET = torch.tensor([0, 2])


def lesson(student=STUDENT, teacher=TEACHER, smoothing=0.0):
    hard = F.cross_entropy(student, TARGET, label_smoothing=smoothing)
    return Lesson(student, (teacher,), (), TARGET, lambda: hard)


def nkd(**own):
    return Nkd(DistillOptions(method="nkd", nkd=NkdOptions(**own)), None)


def test_golden_values():
    assert F.cross_entropy(STUDENT, TARGET).item() == pytest.approx(0.863764, abs=1e-6)
    assert target_term(STUDENT, TEACHER, TARGET).item() == pytest.approx(0.665568, abs=1e-6)
    assert other_term(STUDENT, TEACHER, TARGET, 1.5, 1.0).item() == pytest.approx(1.523202, abs=1e-6)
    assert other_term(STUDENT, TEACHER, TARGET, 3.5, 3.0).item() == pytest.approx(34.083907, abs=1e-5)
    assert nkd()(lesson()).item() == pytest.approx(0.863764 + 0.665568 + 1.523202, abs=1e-5)


def test_without_gamma_it_is_cross_entropy_and_the_targets_term():
    assert nkd(gamma=0)(lesson()).item() == pytest.approx(0.863764 + 0.665568, abs=1e-6)


def test_the_others_do_not_see_the_targets_logit():
    moved = STUDENT.clone()
    moved[[0, 1], TARGET] += 5
    assert torch.equal(*(other_term(student, TEACHER, TARGET, 1.5, 1.0) for student in (STUDENT, moved)))


def test_smoothed_labels_count_once():
    smooth = F.cross_entropy(STUDENT, TARGET, label_smoothing=0.1) - F.cross_entropy(STUDENT, TARGET)
    assert (nkd()(lesson(smoothing=0.1)) - nkd()(lesson())).item() == pytest.approx(smooth.item(), abs=1e-6)


def test_places_without_a_label_are_passed_over():
    """Two tokens and a sentence's padding between them."""
    student = torch.stack([STUDENT[0], torch.full((4,), 9.0), STUDENT[1]])[None]
    teacher = torch.stack([TEACHER[0], torch.tensor([0.0, 9, 0, 0]), TEACHER[1]])[None]
    hard = torch.tensor(0.863764)
    padded = Lesson(student, (teacher,), (), torch.tensor([[0, -1, 2]]), lambda: hard)
    assert nkd()(padded).item() == pytest.approx(nkd()(lesson()).item(), abs=1e-5)
