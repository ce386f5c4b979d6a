import math

import pytest
import torch
from torch import nn

from edgekit.passes.distill.meal import Discriminator, Meal, soft_cross_entropy
from edgekit.passes.distill.method import Classroom, Lesson
from edgekit.schema.distill import DistillOptions

LOG_3 = math.log(3)
TEACHERS = (torch.tensor([[2 * LOG_3, 0.0]]), torch.tensor([[0.0, 0.0]]))  # probabilities 9/10 and 1/2: a mean of 7/10
STUDENT = torch.tensor([[LOG_3, 0.0]])  # 3/4, 1/4


def no_labels():
    raise AssertionError("labels are not looked at")


def lesson(student, teachers):
    return Lesson(student, teachers, (), torch.tensor([0]), no_labels)


def test_the_target_is_the_mean_of_probabilities_by_hand(make_model):
    expected = -(0.7 * math.log(0.75) + 0.3 * math.log(0.25))
    assert soft_cross_entropy(STUDENT, TEACHERS).item() == pytest.approx(expected, rel=1e-6)
    classroom = Classroom(make_model(nn.Linear(3, 2), (1, 3)), ())
    assert Meal(DistillOptions(method="meal"), classroom)(lesson(STUDENT, TEACHERS)).item() == pytest.approx(expected)
    # each output for itself: 9/10 and 1/2 of yes
    one, yes = STUDENT[:, :1], (TEACHERS[0][:, :1], TEACHERS[1][:, :1])
    by_bit = Meal(DistillOptions(method="meal", loss="bce"), classroom)(lesson(one, yes)).item()
    assert by_bit == pytest.approx(expected, rel=1e-6)
    numbers = Meal(DistillOptions(method="meal", loss="mse"), classroom)
    assert numbers(lesson(torch.tensor([[1.0]]), (torch.tensor([[2.0]]), torch.tensor([[6.0]])))).item() == 9.0


def test_weights_do_not_decay_unless_they_are_told_to():
    assert DistillOptions(method="meal").weight_decay == 0
    assert DistillOptions(method="meal", weight_decay=0.1).weight_decay == 0.1
    assert DistillOptions(method="kd").weight_decay > 0


def test_the_discriminator_is_three_layers_to_an_eighth_each_and_calls_the_student_first():
    layers = [layer for layer in Discriminator(128).layers if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(128, 16), (16, 2), (2, 2)]
    small = Discriminator(2)  # 2 -> 1 -> 1 -> 2
    with torch.no_grad():
        for layer in (layer for layer in small.layers if isinstance(layer, nn.Linear)):
            layer.weight.fill_(1)
            layer.bias.zero_()
    # the answers are (2, 2) to the student's logits, which sum to 2, and (0, 0) to the teacher's, by the last ReLU
    told = small(torch.tensor([[0.5, 1.5]]), torch.tensor([[-4.0, 1.0]])).item()
    yes, no = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert told == pytest.approx((yes + no + 2 * math.log(2)) / 4, rel=1e-6)
    with torch.no_grad():
        small.layers[4].weight.copy_(torch.tensor([[1.0], [0.0]]))
    told = small(torch.tensor([[0.5, 1.5]]), torch.tensor([[-4.0, 1.0]])).item()
    assert told == pytest.approx((yes + 3 * math.log(2)) / 4, rel=1e-6)  # right of the student, so less


def test_the_discriminator_is_off_by_default_and_weighs_one(make_model):
    classroom = Classroom(make_model(nn.Linear(3, 2), (1, 3)), ())
    assert list(Meal(DistillOptions(method="meal"), classroom).parameters()) == []
    method = Meal(DistillOptions(method="meal", meal={"discriminator": True}), classroom)
    teacher = TEACHERS[:1]
    expected = soft_cross_entropy(STUDENT, teacher) + method.discriminator(STUDENT, teacher[0])
    assert method(lesson(STUDENT, teacher)).item() == pytest.approx(expected.item(), rel=1e-6)
