import numpy as np
import pytest

from edgekit.data.metrics import METRICS, find_metric, top1, top5
from edgekit.errors import DataError
from edgekit.schema.recipe import METRIC_NAMES

OUTPUTS = np.array(
    [
        [6, 5, 4, 3, 2, 1],
        [1, 2, 3, 4, 5, 6],
        [0, 0, 0, 0, 0, 0],
        [9, 1, 8, 2, 7, 3],
    ],
    dtype=np.float32,
)


def test_top1_counts_rows_whose_largest_entry_is_right():
    assert top1(OUTPUTS, np.array([0, 5, 1, 2])) == 0.5


def test_top5_counts_rows_with_the_label_among_five():
    # the sixth of row 0 is 5, of row 1 it is 0, of six equal ones the last, of row 3 it is 1
    assert top5(OUTPUTS, np.array([4, 1, 4, 5])) == 1.0
    assert top5(OUTPUTS, np.array([5, 0, 5, 1])) == 0.0


def test_a_metric_by_name_or_by_reference():
    assert find_metric("top5") is METRICS["top5"]
    assert tuple(METRICS) == METRIC_NAMES  # what a plan accepts
    assert find_metric("edgekit.data.metrics:top1") is top1
    with pytest.raises(DataError) as caught:
        find_metric("topp1")
    assert "did you mean 'top1'" in caught.value.fix
