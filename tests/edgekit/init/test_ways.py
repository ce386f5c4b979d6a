import pytest

from edgekit.init.ways import ways


def told(shape, wanted=None):
    return [(way.raw_layout, way.layout, way.shape, way.resize) for way in ways(shape, wanted)]


def test_images_are_turned_round_first_and_then_taken_as_they_are():
    assert told((8, 6, 3)) == [
        ("NHWC", "NCHW", (1, 3, 8, 6), None),
        ("NHWC", "NHWC", (1, 8, 6, 3), None),
        ("N", "NCHW", (1, 8, 6, 3), None),
    ]
    assert told((3, 8, 6))[0] == ("NCHW", "NCHW", (1, 3, 8, 6), None)


@pytest.mark.parametrize(("shape", "layout"), [((5,), "NC"), ((25, 10), "NTC"), ((2, 5, 5), "NCHW"), ((), "N")])
def test_everything_else_is_taken_as_it_is(shape, layout):
    assert told(shape) == [("N", layout, (1, *shape), None)]


def test_a_known_shape_leaves_the_ways_that_end_there():
    assert told((8, 6, 3), (1, 8, 6, 3)) == [
        ("NHWC", "NHWC", (1, 8, 6, 3), None),
        ("N", "NCHW", (1, 8, 6, 3), None),
    ]
    assert told((8, 6, 3), (1, 3, 32, 16)) == [("NHWC", "NCHW", (1, 3, 32, 16), (32, 16))]
    assert told((8, 6, 3), (1, 1, 8, 6)) == []
    assert told((25, 10), (1, 30, 10)) == []  # what is no image is not resized
