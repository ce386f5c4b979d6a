import pytest
import torch

from edgekit.passes.distill.method import Classroom, Lesson
from edgekit.passes.distill.relation import Rkd, angles, distances
from edgekit.schema.distill import DistillOptions
from tests import nets

TRIANGLE = torch.tensor([[0.0, 0], [3, 0], [0, 4]])  # sides 3, 4 and 5


def test_distances_are_parts_of_their_mean():
    expected = torch.tensor([[0.0, 3, 4], [3, 0, 5], [4, 5, 0]]) / 4
    torch.testing.assert_close(distances(TRIANGLE), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(distances(7 * TRIANGLE), expected, rtol=1e-5, atol=1e-5)


def test_angles_are_cosines_at_the_first_sample():
    found = angles(TRIANGLE)
    assert found[0, 1, 2].item() == pytest.approx(0, abs=1e-6)
    assert found[1, 0, 2].item() == pytest.approx(3 / 5)
    assert found[2, 0, 1].item() == pytest.approx(4 / 5)
    assert found[1, 1, 2].item() == 0  # no direction from a sample to itself


def test_the_loss_by_hand_between_features_of_other_widths():
    model = nets.model(nets.TINY_CONV)
    method = Rkd(DistillOptions(method="rkd"), Classroom(model, (model,)))
    assert [(one.name, other.name) for one, other in method.taps] == [("pointwise", "pointwise")]
    other = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])  # in a row: distances 1, 1, 2; angles 1, 1, -1
    pair = (TRIANGLE[:, :, None, None].repeat(1, 1, 2, 2), other)
    logits = torch.zeros(3, 3)
    told = Lesson(logits, (logits,), (pair,), torch.tensor([0, 1, 2]), lambda: torch.tensor(1.0))
    # Huber of |0.75 - 0.75|, |1 - 1.5|, |1.25 - 0.75|, each twice of nine places
    by_distance = 2 * (0 + 0.125 + 0.125) / 9
    # at sample 0: |0 - 1|; at 1: |0.6 + 1|; at 2: |0.8 - 1|; each twice of 27, and three directions of length 1 agree
    by_angle = 2 * ((1 - 0.5) + (1.6 - 0.5) + 0.02) / 27
    assert method(told).item() == pytest.approx(1 + 25 * by_distance + 50 * by_angle, rel=1e-4)
