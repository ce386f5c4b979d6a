import numpy as np
import pytest

from edgekit.data.loaders.pasted_digits import pasted_digits
from edgekit.errors import DataError


def test_scenes_are_those_of_their_seed_and_boxes_are_drawn_around_bright_ink():
    parts = pasted_digits(train=40, selection=5, test=20, most=3)
    assert {name: len(part) for name, part in parts.items()} == {"train": 40, "selection": 5, "test": 20}
    (images,), boxes = parts["train"].inputs, parts["train"].labels
    assert images.shape == (40, 64, 64, 1)
    assert images.dtype == np.uint8
    assert boxes.shape == (40, 3, 5)
    assert boxes.dtype == np.float32
    assert {int((rows[:, 0] >= 0).sum()) for rows in boxes} == {1, 2, 3}
    noise = round(0.2 * 255)
    sides = []
    for image, rows in zip(images[..., 0], boxes, strict=True):
        filled = rows[:, 0] >= 0
        assert (np.diff(filled.astype(int)) <= 0).all()  # what fills stands last
        ink = np.zeros(image.shape, bool)
        for label, left, top, right, bottom in rows[filled].astype(int):
            assert 0 <= label <= 9
            inside = image[top:bottom, left:right] > noise
            # every edge of a box touches ink: a quarter of full brightness, of which 0.6 is left at least, is 38
            assert all(
                (image[top:bottom, left:right] >= 36).take(place, axis).any() for axis in (0, 1) for place in (0, -1)
            )
            ink[top:bottom, left:right] |= inside
            sides.append(max(right - left, bottom - top))
        assert ((image > 2 * noise) & ~ink).sum() == 0  # nothing bright lies outside of all boxes
    assert min(sides) >= 10
    assert max(sides) <= 28
    again = pasted_digits(train=40, selection=5, test=20, most=3)
    other = pasted_digits(train=40, selection=5, test=20, most=3, seed=1)
    assert np.array_equal(again["train"].inputs[0], images)
    assert not np.array_equal(other["train"].inputs[0], images)
    assert not np.array_equal(parts["test"].inputs[0][:5], parts["selection"].inputs[0])


def test_digits_do_not_overlap():
    for rows in pasted_digits(train=30, selection=1, test=1)["train"].labels:
        boxes = rows[rows[:, 0] >= 0, 1:]
        for i, one in enumerate(boxes):
            for other in boxes[i + 1 :]:
                low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
                assert (high - low).min() <= 0


@pytest.mark.parametrize("arguments", [{"size": 40}, {"most": 0}])
def test_scenes_that_hold_nothing_are_refused(arguments: dict[str, int]):
    with pytest.raises(DataError) as caught:
        pasted_digits(**arguments)
    assert "at least 56 pixels and one digit" in caught.value.fix
