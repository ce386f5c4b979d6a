import numpy as np
import pytest

from edgekit.data import checks
from edgekit.data.checks import check_finite, check_named_classes, checked_parts
from edgekit.data.samples import RawSamples
from edgekit.errors import DataError

LABELS = np.arange(6)


def test_a_pair_becomes_samples_of_one_input_or_of_several():
    made = checked_parts({"a": ([[1], [2]], [0, 1]), "b": (([[1]], [2.0]), [[0.5]])}, "w")
    assert [array.shape for array in made["a"].inputs] == [(2, 1)]
    assert made["a"].labels.dtype == np.int64
    assert [array.shape for array in made["b"].inputs] == [(1, 1), (1,)]
    assert made["b"].labels.dtype == np.float32


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ([], "the loader returned list"),
        ({"a": 3}, "is int"),
        ({"a": ([1, 2], [0])}, "labels are int64 (1,) for inputs (2,)"),
        ({"a": (([1, 2], [1]), [0, 0])}, "labels are int64 (2,) for inputs (2,), (1,)"),
        ({"a": ([1], ["cat"])}, "labels are <U3 (1,)"),
        ({"a": (1, 1)}, "labels are int64 () for inputs ()"),
    ],
)
def test_what_are_no_parts_is_refused(given, what):
    with pytest.raises(DataError) as caught:
        checked_parts(given, "w")
    assert what in caught.value.what


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_by_its_sample(monkeypatch, value):
    monkeypatch.setattr(checks, "_AT_ONCE", 8)  # two samples at a time
    inputs = np.zeros((6, 2, 2), np.float32)
    inputs[3, 1, 0] = inputs[5] = value
    with pytest.raises(DataError) as caught:
        check_finite(RawSamples((inputs,), LABELS), LABELS * 10, "set, train")
    assert caught.value.what == "sample 30 of inputs holds a value that is NaN or infinite"
    assert caught.value.where == "set, train"
    with pytest.raises(DataError) as caught:
        check_finite(RawSamples((LABELS, inputs), LABELS), LABELS, "w")
    assert "sample 3 of input 1 " in caught.value.what
    with pytest.raises(DataError) as caught:
        check_finite(RawSamples((LABELS,), inputs), LABELS, "w")
    assert "sample 3 of labels " in caught.value.what
    check_finite(RawSamples((LABELS, np.zeros((6, 0))), LABELS), LABELS, "w")


def test_a_label_without_a_name_is_refused_where_classes_are_named():
    for labels, what in (([0, 1, 2], "label 2 of sample 9"), ([0, -1, 1], "label -1 of sample 8")):
        with pytest.raises(DataError) as caught:
            check_named_classes(RawSamples((LABELS,), np.array(labels)), ["cat", "dog"], [7, 8, 9], "set, test")
        assert caught.value.what == f"{what}, and there are 2 classes, from 0 on"
    for labels in ([7], [[7]], [0.5]):  # none are named; sequences; numbers
        check_named_classes(RawSamples((LABELS,), np.array(labels)), [] if labels == [7] else ["cat"], LABELS, "w")
