from __future__ import annotations

import numpy as np
import pytest

from edgekit.agent.errors import AgentError
from edgekit.agent.postprocess import iou, postprocess, suppress


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """By its definition, one pair at a time and in double precision."""
    wide = max(0.0, float(min(a[2], b[2])) - float(max(a[0], b[0])))
    high = max(0.0, float(min(a[3], b[3])) - float(max(a[1], b[1])))
    areas = [max(0.0, float(x[2] - x[0])) * max(0.0, float(x[3] - x[1])) for x in (a, b)]
    union = sum(areas) - wide * high
    return wide * high / union if union else 0.0


def kept_by_brute_force(found: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """Every box, best first, is kept unless a kept one overlaps it by more than the threshold."""
    kept: list[int] = []
    for index in sorted(range(len(scores)), key=lambda i: (-float(scores[i]), i)):
        if all(overlap(found[other], found[index]) <= threshold for other in kept):
            kept.append(index)
    return kept


def test_overlap_by_hand():
    # 2 x 2 against 2 x 2 moved by one: 1 of 7; inside: 1 of 4; apart; turned round; without an area
    own = boxes((0, 0, 2, 2), (1, 1, 1, 1))
    others = boxes((1, 1, 3, 3), (0, 0, 1, 1), (2, 0, 4, 2), (2, 2, 0, 0), (1, 1, 1, 1))
    expected = [[1 / 7, 1 / 4, 0, 0, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_allclose(iou(own, others), expected, rtol=1e-6)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7])
def test_suppression_agrees_with_brute_force(threshold: float):
    generator = np.random.default_rng(3)
    corners = generator.uniform(0, 20, (60, 2))
    found = np.concatenate([corners, corners + generator.uniform(1, 12, (60, 2))], axis=1).astype(np.float32)
    scores = generator.integers(0, 12, 60).astype(np.float32) / 12  # with ties
    kept = suppress(found, scores, threshold)
    assert kept.tolist() == kept_by_brute_force(found, scores, threshold)
    assert 1 < len(kept) < 60  # something was dropped


def test_a_box_that_was_dropped_drops_nothing():
    # the second overlaps both others by 1 / 3; it goes, and so the third stays
    found = boxes((0, 0, 2, 1), (1, 0, 3, 1), (2, 0, 4, 1))
    assert suppress(found, np.array([0.9, 0.8, 0.7], dtype=np.float32), 0.3).tolist() == [0, 2]
    assert suppress(found, np.array([0.9, 0.8, 0.7], dtype=np.float32), 0.34).tolist() == [0, 1, 2]


def test_detections_of_two_samples_by_hand():
    places = boxes((0, 0, 10, 10), (1, 0, 11, 10), (20, 20, 30, 30))
    scores = np.array(
        [
            [
                [0.9, 0.2],
                [0.8, 0.7],
                [0.0, 0.3],
            ],  # class 0 drops the second box; class 1 keeps it, being the best there
            [[0.1, 0.0], [0.0, 0.0], [0.05, 0.0]],  # only one above the threshold
        ],
        dtype=np.float32,
    )
    options = {"boxes": "where", "scores": "what", "iou_threshold": 0.5, "score_threshold": 0.05, "max_detections": 4}
    outputs = {"where": np.stack([places, places]), "what": scores, "features": np.ones((2, 3), dtype=np.float32)}
    found = postprocess([{"nms": options}], {}, outputs)
    assert set(found) == {"detections", "features"}
    nothing = [0, 0, 0, 0, 0, -1]
    expected = [
        [[0, 0, 10, 10, 0.9, 0], [1, 0, 11, 10, 0.7, 1], [20, 20, 30, 30, 0.3, 1], nothing],
        [[0, 0, 10, 10, 0.1, 0], nothing, nothing, nothing],
    ]
    np.testing.assert_array_equal(found["detections"], np.array(expected, dtype=np.float32))
    assert found["detections"].dtype == np.float32


def test_the_best_are_kept_where_there_are_more_than_asked_for():
    apart = boxes(*((10.0 * i, 0, 10.0 * i + 5, 5) for i in range(5)))
    scores = np.array([0.2, 0.5, 0.3, 0.9, 0.4], dtype=np.float32)[:, None]
    options = {"score_threshold": 0.0, "max_detections": 2}
    (found,) = postprocess([{"nms": options}], {}, {"boxes": apart[None], "scores": scores[None]})["detections"]
    assert found[:, 0].tolist() == [30, 10]


def test_reconstruction_error_by_hand():
    given = np.array([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]], dtype=np.float32)
    rebuilt = np.array([[[1.0, 0.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 3.0]]], dtype=np.float32)
    found = postprocess([{"reconstruction_error": {}}], {"x": given}, {"y": rebuilt})
    assert set(found) == {"score"}
    np.testing.assert_allclose(found["score"], [1.0, 3.0])


def test_softmax_of_large_values_and_a_second_step():
    logits = np.array([[1000.0, 1000.0], [0.0, np.log(3)]], dtype=np.float32)
    steps = [{"softmax": None}, {"reconstruction_error": {"input": "b", "output": "y"}}]
    found = postprocess(steps[:1], {}, {"y": logits})
    np.testing.assert_allclose(found["y"], [[0.5, 0.5], [0.25, 0.75]], rtol=1e-6)
    both = postprocess(steps, {"a": logits, "b": np.zeros((2, 2))}, {"y": logits})
    np.testing.assert_allclose(both["score"], [0.25, (0.0625 + 0.5625) / 2], rtol=1e-6)


PLACES, SCORES = np.zeros((1, 3, 4)), np.zeros((1, 3, 2))


@pytest.mark.parametrize(
    ("steps", "outputs", "what", "fix"),
    [
        ([{"nmms": {}}], {"y": SCORES}, "nmms", "nms"),
        ([{"nms": {}}], {"boxes": PLACES, "score": SCORES}, "'scores'", "boxes, score"),
        ([{"nms": {}}], {"boxes": PLACES, "scores": SCORES[:, :2]}, "(1, 2, 2)", "(N, A, C)"),
        ([{"nms": {}}], {"boxes": PLACES * np.nan, "scores": SCORES}, "NaN", "network"),
        ([{"softmax": {}}], {"a": SCORES, "b": SCORES}, "2 outputs", "output: NAME"),
        ([{"reconstruction_error": {}}], {"y": SCORES}, "(1, 3, 2)", "one shape"),
        ([{"reconstruction_error": {"input": "z"}}], {"y": PLACES}, "'z'", "inputs: x"),
    ],
)
def test_what_does_not_fit_is_named(
    steps: list[dict[str, object]], outputs: dict[str, np.ndarray], what: str, fix: str
):
    with pytest.raises(AgentError) as caught:
        postprocess(steps, {"x": PLACES}, outputs)
    assert what in caught.value.what
    assert "postprocess" in caught.value.where or "output boxes" in caught.value.where
    assert fix in caught.value.fix
