import numpy as np

from edgekit.agent.feeds import random_feeds


def test_random_feeds_are_fixed_and_fill_their_ranges():
    inputs = [
        {"name": "f", "dtype": "float32", "shape": [2, 500], "scale": None},
        {"name": "q", "dtype": "int8", "shape": [2, 5000], "scale": 0.1},
        {"name": "i", "dtype": "int64", "shape": [1, 7], "scale": None},
    ]
    first, second, other = random_feeds(inputs, 0), random_feeds(inputs, 0), random_feeds(inputs, 1)
    for name in ("f", "q", "i"):
        np.testing.assert_array_equal(first[name], second[name])
    assert not np.array_equal(first["q"], other["q"])
    assert (first["q"].min(), first["q"].max(), first["q"].dtype) == (-128, 127, np.int8)
    assert abs(first["f"].std() - 1) < 0.1
    assert not first["i"].any()
