import numpy as np
import pytest

from edgekit.data.metrics.regression import absolute_by_target, mae, mse, squared_by_target
from edgekit.errors import DataError

OUTPUTS = np.array([[1.0, 2.0], [3.0, -4.0]], np.float32)
LABELS = np.array([[0.0, 2.0], [5.0, -1.0]], np.float32)  # differences 1 0, -2 -3


def test_errors_are_means_over_every_number():
    assert mse(OUTPUTS, LABELS) == 14 / 4
    assert mae(OUTPUTS, LABELS) == 6 / 4
    assert squared_by_target(OUTPUTS, LABELS) == {"target 0": 2.5, "target 1": 4.5}
    assert absolute_by_target(OUTPUTS, LABELS) == {"target 0": 1.5, "target 1": 1.5}


def test_one_number_a_sample_may_have_an_axis_or_none():
    assert mse(OUTPUTS[:, :1], LABELS[:, 0]) == 2.5
    assert mae(OUTPUTS[:, 0], LABELS[:, :1]) == 1.5


def test_sums_are_in_float64():
    assert mse(np.array([1e30], np.float32), np.array([0.0], np.float32)) == pytest.approx(1e60)  # inf in float32


def test_another_count_of_numbers_is_refused():
    for function, name in ((mse, "mse"), (mae, "mae")):
        with pytest.raises(DataError) as caught:
            function(OUTPUTS, LABELS[:, :1])
        assert caught.value.what == "labels (2, 1) for outputs (2, 2)"
        assert caught.value.where == f"metric {name}"
