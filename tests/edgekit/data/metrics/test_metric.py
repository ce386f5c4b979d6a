import numpy as np
import pytest

from edgekit.data.metrics import METRICS, Metric
from edgekit.data.metrics.metric import mean_of_classes
from edgekit.errors import DataError

SCORES = np.array([[6, 5, 4], [1, 2, 3], [9, 1, 8]], dtype=np.float32)


def test_a_metric_is_called_like_the_function_that_it_holds():
    metric = Metric(lambda outputs, labels: float(outputs.sum() - labels.sum()), larger_is_better=False)
    assert metric(SCORES, np.array([1, 2, 3])) == 33
    assert (metric.larger_is_better, metric.is_share, metric.details) == (False, True, None)


def test_a_number_that_follows_from_its_details_is_not_computed_again():
    def never(outputs, labels):
        raise AssertionError("computed a second time")

    labels = np.array([0, 2, 1])
    details = {"class 0": 0.25, "class 2": 0.75, "ap50": 0.9}
    metric = Metric(never, details=lambda outputs, labels: details, of_details=lambda found: found["class 2"])
    assert metric.with_details(SCORES, labels) == (0.75, details)
    assert Metric(lambda outputs, labels: 3.0).with_details(SCORES, labels) == (3.0, {})
    assert Metric(lambda outputs, labels: 3.0, details=lambda o, n: details).with_details(SCORES, labels)[0] == 3.0
    assert mean_of_classes(details) == 0.5
    for name in ("per_class", "map50_95"):
        assert METRICS[name].of_details is mean_of_classes


@pytest.mark.parametrize("name", ["top1", "top5", "per_class"])
@pytest.mark.parametrize("bad", [3, -1])
def test_a_label_that_the_network_has_no_class_for_is_named(name, bad):
    with pytest.raises(DataError) as caught:
        METRICS[name](SCORES, np.array([0, 2, bad]))
    assert caught.value.what == f"label {bad} of sample 2 is outside 0 to 2"
    assert caught.value.where == f"metric {name}"
    assert "3 classes" in caught.value.fix


def test_labels_of_another_shape_or_kind_are_refused():
    for labels, seen in [
        (np.array([0, 1]), "labels (2,)"),
        (np.array([[0], [1], [2]]), "labels (3, 1)"),
        (np.array([0.0, 1.0, 2.0]), "float64"),
    ]:
        with pytest.raises(DataError) as caught:
            METRICS["top1"](SCORES, labels)
        assert seen in caught.value.what
    with pytest.raises(DataError) as caught:
        METRICS["top1"](SCORES[:0], np.zeros(0, np.int64))
    assert caught.value.what == "there are no samples"


def test_a_position_of_a_sequence_is_named_too():
    with pytest.raises(DataError) as caught:
        METRICS["top1"](np.zeros((2, 4, 3), np.float32), np.array([[0, 1, 2, 0], [0, 0, 5, 0]]))
    assert caught.value.what == "label 5 of sample 1, position 2 is outside 0 to 2"
