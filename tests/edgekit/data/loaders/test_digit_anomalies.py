import numpy as np
import pytest

from edgekit.data.loaders.digit_anomalies import digit_anomalies
from edgekit.data.loaders.digits import digits
from edgekit.errors import DataError


def test_what_is_trained_on_is_normal_and_what_is_tested_on_is_both():
    parts, whole = digit_anomalies([3, 8]), digits()
    of = {name: np.isin(part.labels, [3, 8]) for name, part in whole.items()}
    assert np.array_equal(parts["train"].inputs[0], whole["train"].inputs[0][of["train"]])
    assert set(parts["train"].labels) == {0}
    for name in ("selection", "test"):
        assert np.array_equal(parts[name].inputs[0], whole[name].inputs[0])
        assert np.array_equal(parts[name].labels, 1 - of[name])


@pytest.mark.parametrize("normal", [[], list(range(10)), [3, 10]])
def test_there_is_something_normal_and_something_that_is_not(normal: list[int]):
    with pytest.raises(DataError) as caught:
        digit_anomalies(normal)
    assert "0 to 9" in caught.value.fix
