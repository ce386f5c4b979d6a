import numpy as np
import pytest

from edgekit.data.metrics import METRICS
from edgekit.data.metrics.detection import average_precisions, map50_95
from edgekit.errors import DataError

FILLED = [-1, 0, 0, 0, 0]
NOTHING = [0, 0, 0, 0, 0, 0]


def arrays(detections, boxes):
    """Lists of rows of every image, filled up to one length."""
    most, deepest = max(map(len, detections)), max(map(len, boxes))
    outputs = [[*rows, *[NOTHING] * (most - len(rows))] for rows in detections]
    labels = [[*rows, *[FILLED] * (deepest - len(rows))] for rows in boxes]
    return np.array(outputs, np.float32), np.array(labels, np.float32)


def test_one_box_found_exactly_is_one_and_a_wrong_one_above_it_halves_it():
    outputs, labels = arrays([[[0, 0, 10, 10, 0.5, 2]]], [[[2, 0, 0, 10, 10]]])
    assert map50_95(outputs, labels) == 1.0
    outputs, labels = arrays([[[50, 50, 60, 60, 0.9, 2], [0, 0, 10, 10, 0.5, 2]]], [[[2, 0, 0, 10, 10]]])
    assert map50_95(outputs, labels) == 0.5  # precision is 1/2 at every recall
    outputs, labels = arrays([[[50, 50, 60, 60, 0.1, 2], [0, 0, 10, 10, 0.5, 2]]], [[[2, 0, 0, 10, 10]]])
    assert map50_95(outputs, labels) == 1.0  # a wrong one below the last right one costs nothing


def test_an_overlap_counts_at_the_thresholds_that_it_reaches():
    # IoU 80 / 120 = 0.667: right at 0.5, 0.55, 0.6, 0.65
    outputs, labels = arrays([[[2, 0, 12, 10, 0.5, 0]]], [[[0, 0, 0, 10, 10]]])
    assert map50_95(outputs, labels) == pytest.approx(0.4)
    assert average_precisions(outputs, labels) == pytest.approx({"ap50": 1.0, "ap75": 0.0, "class 0": 0.4})


def test_precision_is_read_at_101_recalls():
    # recall 1/2 at precision 1, recall 1 at precision 2/3: 51 recalls of 0 to 0.5, 50 of 0.51 to 1
    outputs, labels = arrays(
        [[[0, 0, 10, 10, 0.9, 0], [50, 50, 60, 60, 0.8, 0], [20, 20, 30, 30, 0.7, 0]]],
        [[[0, 0, 0, 10, 10], [0, 20, 20, 30, 30]]],
    )
    assert map50_95(outputs, labels) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_box_is_taken_once_and_by_the_detection_of_highest_score():
    # twice the same box: the second is wrong, and stands before the one that finds the other box
    outputs, labels = arrays(
        [[[0, 0, 10, 10, 0.7, 0], [0, 0, 10, 10, 0.9, 0], [20, 20, 30, 30, 0.6, 0]]],
        [[[0, 0, 0, 10, 10], [0, 20, 20, 30, 30]]],
    )
    assert map50_95(outputs, labels) == pytest.approx((51 + 50 * 2 / 3) / 101)
    # of two boxes that overlap it a detection takes the nearer one, and leaves the other to the next
    outputs, labels = arrays([[[0, 0, 10, 10, 0.9, 0], [0, 0, 10, 9, 0.8, 0]]], [[[0, 0, 0, 10, 9], [0, 0, 0, 10, 10]]])
    assert map50_95(outputs, labels) == 1.0


def test_of_two_boxes_that_overlap_it_alike_a_detection_takes_the_last():
    # so the code of COCO has it: nothing is left to the second detection, which lies on the last box exactly
    outputs, labels = arrays(
        [[[0, 0, 20, 10, 0.9, 0], [10, 0, 20, 10, 0.8, 0]]], [[[0, 0, 0, 10, 10], [0, 10, 0, 20, 10]]]
    )
    assert average_precisions(outputs, labels)["ap50"] == pytest.approx(51 / 101)


def test_classes_count_alike_and_only_those_that_occur():
    outputs, labels = arrays(
        [[[0, 0, 10, 10, 0.9, 0], [0, 0, 10, 10, 0.8, 7]], [[5, 5, 9, 9, 0.9, 3]]],
        [[[0, 0, 0, 10, 10]], [[3, 20, 20, 30, 30]]],
    )
    assert map50_95(outputs, labels) == 0.5
    assert average_precisions(outputs, labels) == {"ap50": 0.5, "ap75": 0.5, "class 0": 1.0, "class 3": 0.0}
    assert METRICS["map50_95"].details is average_precisions


def test_a_hundred_detections_of_a_class_in_an_image_count():
    rows = [[50, 50, 60, 60, 0.9, 0]] * 100
    outputs, labels = arrays([[*rows, [0, 0, 10, 10, 0.5, 0]]], [[[0, 0, 0, 10, 10]]])
    assert map50_95(outputs, labels) == 0.0
    assert map50_95(outputs[:, 1:], labels) == pytest.approx(1 / 100)


def test_a_row_without_score_is_no_detection():
    outputs, labels = arrays([[[0, 0, 10, 10, 0.9, 0]]], [[[0, 0, 0, 10, 10]]])
    for score in (0.0, -1.0, np.nan):
        outputs[0, 0, 4] = score
        assert map50_95(outputs, labels) == 0.0


def scenes(seed, images, detections, spread, classes=3, most=6):
    """Whole pixels and scores in hundredths, so that overlaps and scores are often equal."""
    generator = np.random.default_rng(seed)

    def box():
        (x, y), (width, height) = generator.integers(0, 40, 2), generator.integers(7, 20, 2)
        return [x, y, x + width, y + height]

    found, wanted = [], []
    for _ in range(images):
        boxes = [[generator.integers(0, classes), *box()] for _ in range(generator.integers(0, most + 1))]
        rows = []
        for _ in range(generator.integers(0, detections + 1)):
            moved = [generator.integers(0, classes), *box()]
            if boxes and generator.random() < 0.7:
                moved = list(boxes[generator.integers(0, len(boxes))])
                moved[1:] = (np.array(moved[1:]) + generator.integers(-spread, spread + 1, 4)).tolist()
            rows.append([*moved[1:], generator.integers(1, 101) / 100, moved[0]])
        found.append(rows)
        wanted.append(boxes)
    return arrays(found, wanted)


def brute_force(outputs, labels):
    """The same from the definition, one threshold, class and recall at a time; no arrays."""
    table = []
    for label in sorted({int(row[0]) for image in labels for row in image if row[0] >= 0}):
        for step in range(10):
            threshold, listed, total = 0.5 + 0.05 * step, [], 0
            for rows, truth in zip(outputs.astype(float), labels.astype(float), strict=True):
                boxes = [tuple(row[1:]) for row in truth if row[0] == label]
                total += len(boxes)
                taken = set()
                mine = sorted((row for row in rows if row[4] > 0 and row[5] == label), key=lambda row: -row[4])
                for row in mine[:100]:
                    free = [(iou(row[:4], box), place) for place, box in enumerate(boxes) if place not in taken]
                    best = max(free, default=(0.0, -1))
                    listed.append((row[4], best[0] >= threshold - 1e-12))
                    if listed[-1][1]:
                        taken.add(best[1])
            listed.sort(key=lambda pair: -pair[0])
            right = [sum(hit for _, hit in listed[: n + 1]) for n in range(len(listed))]
            curve = [(hits / total, hits / (n + 1)) for n, hits in enumerate(right)]
            reads = [max((p for r, p in curve if r >= recall / 100 - 1e-12), default=0.0) for recall in range(101)]
            table.append(sum(reads) / 101)
    return sum(table) / len(table)


def iou(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    return common / ((one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - common)


# (seed, images, detections, spread) -> AP, AP50 and AP75 that pycocotools 2.0.11 gives for these scenes
WITNESS = {
    (0, 6, 150, 1): (0.3274185576, 0.4795066109, 0.3810568189),
    (1, 30, 12, 1): (0.1813829414, 0.2909305321, 0.2087984169),
    (2, 30, 30, 2): (0.1564043611, 0.3688205041, 0.0960922689),
}


@pytest.mark.parametrize("scene", list(WITNESS))
def test_scenes_score_as_they_do_with_the_code_of_coco(scene):
    outputs, labels = scenes(*scene)
    details = average_precisions(outputs, labels)
    assert (map50_95(outputs, labels), details["ap50"], details["ap75"]) == pytest.approx(WITNESS[scene], abs=1e-9)


def test_scenes_score_as_by_brute_force():
    for seed in range(3, 6):
        outputs, labels = scenes(seed, 12, 12, 1)
        assert map50_95(outputs, labels) == pytest.approx(brute_force(outputs, labels), abs=1e-9)


@pytest.mark.parametrize(
    ("outputs", "labels", "what"),
    [
        (np.zeros((2, 4, 7)), np.zeros((2, 3, 5)), "labels (2, 3, 5) for outputs (2, 4, 7)"),
        (np.zeros((2, 4, 6)), np.zeros((2, 5)), "labels (2, 5) for outputs (2, 4, 6)"),
        (np.zeros((2, 4, 6)), np.zeros((3, 3, 5)), "3 labels for 2 outputs"),
        (np.zeros((2, 4, 6)), np.full((2, 3, 5), -1.0), "there is no box in any sample"),
        (np.zeros((1, 1, 6)), np.array([[[1, 5, 0, 4, 9]]]), "box 0 of sample 0 is [1, 5, 0, 4, 9]"),
        (np.zeros((1, 1, 6)), np.array([[[0, 0, 0, 4, 9], [0.5, 0, 0, 4, 9]]]), "box 1 of sample 0 is"),
    ],
)
def test_what_are_no_boxes_is_refused(outputs, labels, what):
    with pytest.raises(DataError) as caught:
        map50_95(outputs, labels)
    assert what in caught.value.what
    assert caught.value.where == "metric map50_95"
