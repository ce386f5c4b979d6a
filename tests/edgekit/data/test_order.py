import numpy as np
import pytest

from edgekit.data.order import random_numbers, sample_order
from edgekit.errors import DataError

LABELS = np.repeat([0, 1, 2], [600, 300, 100])  # sorted by class, as a folder gives them


def test_random_numbers_are_those_of_splitmix64():
    # the first three of seed 1234567 in the authors' own code
    wanted = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert random_numbers(3, 1234567).tolist() == wanted


@pytest.mark.parametrize("order", ["shuffled", "stratified"])
def test_every_sample_has_one_place_and_the_seed_decides_it(order):
    first, again, other = (sample_order(order, seed, LABELS, "w") for seed in (1, 1, 2))
    assert sorted(first.tolist()) == list(range(1000))
    assert first.tolist() == again.tolist() != other.tolist()


def test_a_shuffled_run_holds_every_class_about_as_often_as_it_occurs():
    counts = np.bincount(LABELS[sample_order("shuffled", 0, LABELS, "w")[:200]])
    assert counts == pytest.approx([120, 60, 20], abs=20)
    assert counts.tolist() != [120, 60, 20]  # by chance, not by count


def test_a_stratified_run_holds_every_class_as_often_as_it_occurs():
    ordered = LABELS[sample_order("stratified", 0, LABELS, "w")]
    for start, stop in ((0, 100), (0, 200), (137, 237), (900, 1000)):
        wanted = (stop - start) * np.array([0.6, 0.3, 0.1])
        assert np.abs(np.bincount(ordered[start:stop], minlength=3) - wanted).max() <= 1
    even = np.repeat([0, 1], 50)
    assert len(set(even[sample_order("stratified", 0, even, "w")][::2].tolist())) == 2  # turns are not always alike


def test_only_classes_have_strata():
    for labels in (np.zeros(4, np.float32), np.zeros((4, 2), np.int64)):
        with pytest.raises(DataError) as caught:
            sample_order("stratified", 0, labels, "calibration set a")
        assert "which are no classes" in caught.value.what
        assert caught.value.fix == "write `order: shuffled`"
