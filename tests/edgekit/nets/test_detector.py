import math

import pytest
import torch
from torch.nn import functional as F

from edgekit.agent.postprocess import iou
from edgekit.nets.detector import Decode, detection_loss, detector


def test_boxes_and_scores_by_hand():
    places, classes = torch.zeros(1, 4, 2, 3), torch.zeros(1, 1, 2, 3)
    places[0, :, 1, 2] = torch.tensor([0.5, -0.25, math.log(2), math.log(0.5)])  # cell 5, its centre at (20, 12)
    classes[0, 0, 1, 2] = math.log(3)
    found = Decode(2, 3)(places, classes)
    assert {name: tuple(value.shape) for name, value in found.items()} == {"boxes": (1, 6, 4), "scores": (1, 6, 1)}
    # the middle at (24, 10), 32 wide and 8 high
    torch.testing.assert_close(found["boxes"][0, 5], torch.tensor([8.0, 6.0, 40.0, 14.0]))
    torch.testing.assert_close(found["boxes"][0, 1], torch.tensor([4.0, -4.0, 20.0, 12.0]))  # 16 around (12, 4)
    torch.testing.assert_close(found["scores"][0, :, 0], torch.tensor([0.5, 0.5, 0.5, 0.5, 0.5, 0.75]))


def test_an_untrained_network_is_sure_of_nothing():
    torch.manual_seed(0)
    found = detector(classes=3, size=32, widths=(4, 8, 8)).eval()(torch.rand(2, 1, 32, 32))
    assert found["boxes"].shape == (2, 16, 4)
    assert found["scores"].shape == (2, 16, 3)
    assert found["scores"].max() < 0.1


def _outputs(boxes: torch.Tensor, scores: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"boxes": boxes, "scores": scores}


def test_the_loss_by_hand():
    # 16 x 16 pixels: cells around (4, 4), (12, 4), (4, 12), (12, 12). One object in the middle of the second one, which
    # is 1 stride away from those beside it: beyond the 0.9 that learn it
    labels = torch.tensor([[[1.0, 8.0, 0.0, 16.0, 8.0], [-1.0, 0.0, 0.0, 0.0, 0.0]]])
    boxes = torch.zeros(1, 4, 4)
    boxes[0, 1] = torch.tensor([4.0, 0.0, 12.0, 8.0])  # half of it: IoU 1/3, and the hull of both is all union
    scores = torch.full((1, 4, 2), 0.1)
    scores[0, 1, 1] = 0.5
    surprise = 7 * 0.1**2 * -math.log(0.9)
    target = 1 / 3
    surprise += (0.5 - target) ** 2 * -math.log(0.5)
    expected = surprise + 2 * (1 - 1 / 3)
    assert detection_loss(_outputs(boxes, scores), torch.zeros(1, 1, 16, 16), labels).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_boxes_apart_are_drawn_together():
    labels = torch.tensor([[[0.0, 8.0, 0.0, 16.0, 8.0]]])
    boxes = torch.zeros(1, 4, 4)
    boxes[0, 1] = torch.tensor([20.0, 0.0, 28.0, 8.0])
    boxes.requires_grad_()
    # GIoU of two boxes 8 wide with 4 between them: 0 - 4 / 20
    loss = detection_loss(_outputs(boxes, torch.full((1, 4, 1), 1e-6)), torch.zeros(1, 1, 16, 16), labels)
    assert loss.item() == pytest.approx(2 * 1.2, rel=1e-4)
    loss.backward()
    assert boxes.grad is not None
    assert boxes.grad[0, 1, 0] > 0  # it goes left


def test_every_cell_learns_the_nearest_object_and_none_where_there_is_none():
    nothing = torch.tensor([[[-1.0, 0.0, 0.0, 0.0, 0.0]]])
    inputs = torch.zeros(1, 1, 16, 16)
    empty = detection_loss(_outputs(torch.zeros(1, 4, 4), torch.full((1, 4, 1), 0.5)), inputs, nothing)
    assert empty.item() == pytest.approx(4 * 0.25 * -math.log(0.5), rel=1e-5)
    # between the two upper cells: both learn the first object; the lower left one learns the second
    labels = torch.tensor([[[0.0, 6.0, 2.0, 10.0, 6.0], [0.0, 0.0, 8.0, 8.0, 16.0]]])
    right = labels[0, [0, 0, 1], 1:]
    boxes = torch.zeros(1, 4, 4)
    boxes[0, :3] = right
    scores = torch.zeros(1, 4, 1)
    scores[0, :3] = 1
    assert detection_loss(_outputs(boxes, scores), inputs, labels).item() == pytest.approx(0, abs=1e-5)


def test_overlaps_are_those_of_the_postprocessing():
    generator = torch.Generator().manual_seed(0)
    low = torch.rand((20, 2, 2), generator=generator) * 8
    pairs = torch.cat([low, low + torch.rand((20, 2, 2), generator=generator) * 8 + 1], -1)
    for found, wanted in pairs:
        # one object whose middle is the only cell's centre, so that the score's target is the overlap
        shift = torch.cat([(wanted[:2] + wanted[2:]) / 2] * 2) - 4
        outputs = _outputs((found - shift)[None, None], torch.ones(1, 1, 1))
        labels = torch.cat([torch.zeros(1), wanted - shift])[None, None]
        overlap = iou(found[None].numpy(), wanted[None].numpy())[0, 0]
        near = torch.tensor(1 - 1e-6)
        surprise = F.binary_cross_entropy(near, torch.tensor(overlap)) * (overlap - near) ** 2
        boxes_term = (detection_loss(outputs, torch.zeros(1, 1, 8, 8), labels) - surprise).item() / 2
        hull = float((torch.maximum(found[2:], wanted[2:]) - torch.minimum(found[:2], wanted[:2])).prod())
        areas = [float((box[2:] - box[:2]).prod()) for box in (found, wanted)]
        union = sum(areas) / (1 + overlap)
        assert boxes_term == pytest.approx(1 - overlap + (hull - union) / hull, abs=1e-3)
