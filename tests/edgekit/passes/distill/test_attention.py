import pytest
import torch

from edgekit.errors import PassError
from edgekit.passes.distill.attention import AttentionTransfer, attention_map
from edgekit.passes.distill.method import Classroom, Lesson
from edgekit.schema.distill import DistillOptions
from tests import nets


def test_a_map_by_hand_whatever_the_channels():
    feature = torch.tensor([[[[1.0, 0.0]], [[1.0, 2.0]]]])  # squares summed over two channels: 2 and 4
    expected = torch.tensor([[2.0, 4.0]]) / 20**0.5
    torch.testing.assert_close(attention_map(feature, (1, 2)), expected)
    torch.testing.assert_close(attention_map(-3 * feature.repeat(1, 5, 1, 1), (1, 2)), expected)


def test_the_loss_by_hand():
    model = nets.model(nets.TINY_CONV)
    method = AttentionTransfer(DistillOptions(method="at"), Classroom(model, (model,)))
    student, teacher = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.6**0.5, 0.8**0.5]]]])
    logits = torch.zeros(1, 3)
    told = Lesson(logits, (logits,), ((student, teacher),), torch.tensor([0]), lambda: torch.tensor(2.0))
    # maps (1, 0) and (0.6, 0.8): squares 0.16 and 0.64, a mean of 0.4, times 1000 / 2; labels whole, outputs none
    assert method(told).item() == pytest.approx(2 + 500 * 0.4, rel=1e-5)


def test_a_vector_has_no_attention(make_model):
    flat = make_model(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 6), torch.nn.Linear(6, 4)))
    with pytest.raises(PassError) as caught:
        AttentionTransfer(DistillOptions(method="at"), Classroom(flat, (flat,)))
    assert "a vector has no places" in caught.value.what
