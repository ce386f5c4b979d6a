import math

import numpy as np
import pytest

from edgekit.debug.layers import Grid
from edgekit.debug.totals import Errors, Totals


def _array(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def test_signal_to_noise_ratio_over_two_batches_by_hand():
    totals = Totals()
    for reference, candidate in ((_array(3), _array(3.3)), (_array(4), _array(3.6))):
        totals.add_reference(reference, None)
        totals.add_candidate(reference, candidate)
    # sum ref^2 = 9 + 16, sum err^2 = 0.09 + 0.16: a hundredth
    assert totals.snr_db(totals.accumulated.squares) == pytest.approx(20.0, abs=1e-4)
    assert totals.power == pytest.approx(12.5)
    assert totals.accumulated.largest == pytest.approx(0.4, abs=1e-6)
    assert totals.cosine == pytest.approx((3 * 3.3 + 4 * 3.6) / (5 * math.hypot(3.3, 3.6)), abs=1e-6)


def test_values_outside_the_grid_are_counted_from_half_a_step_on():
    totals = Totals()
    # of [-1, 1.5]: 1.7 is 0.2 beyond, less than half a step; 2.5 is 1 beyond, -1.2 again 0.2
    totals.add_reference(_array(0.2, 1.7, 2.5, -1.2), Grid(0.5, 0, -2, 3))
    assert totals.clipped == 1
    assert totals.clip_squares == pytest.approx(0.04 + 1.0 + 0.04, abs=1e-6)
    assert (totals.low, totals.high) == pytest.approx((-1.2, 2.5))


def test_shifts_are_by_channel():
    totals = Totals()
    reference = np.zeros((2, 3, 2, 2), np.float32)
    own = reference + np.array([0.5, 0.0, -1.0], np.float32).reshape(1, 3, 1, 1)
    totals.add_own(reference, own)
    assert totals.shift.tolist() == [4.0, 0.0, -8.0]
    totals.add_reference(own, None)
    assert totals.channel_squares.tolist() == [2.0, 0.0, 8.0]


def test_no_error_no_signal_and_not_a_number_have_no_ratio():
    totals = Totals()
    totals.add_reference(_array(1.0), None)
    assert totals.snr_db(0.0) is None
    assert totals.snr_db(math.nan) is None
    assert Totals().snr_db(1.0) is None
    assert Totals().cosine is None


def test_an_error_that_is_not_a_number_is_the_largest():
    errors = Errors()
    errors.add(_array(0.5, math.nan))
    assert errors.largest == math.inf
