import numpy as np
import pytest

from edgekit.store.samples import pack_samples, unpack_samples


def clock_samples(count: int) -> tuple[float, ...]:
    """As the agent gives them: whole nanoseconds / 1e6."""
    drawn = np.random.default_rng(0).gamma(3.0, 400_000.0, count)
    return tuple(int(ns) / 1e6 for ns in drawn)


@pytest.mark.parametrize(
    "samples",
    [
        clock_samples(2000),
        (1.25, 0.1, 1 / 3),
        (0.0, 4294.967295),
        (4294.967296,),
        (1e-9, 123456.789),
        (5e-324, 1.7e308),
        (-1.0, 2.0),
        (),
    ],
    ids=["clock", "thirds", "largest count", "one too large", "below a nanosecond", "extremes", "negative", "none"],
)
def test_samples_come_back_to_the_last_bit(samples: tuple[float, ...]):
    back = unpack_samples(pack_samples(samples))
    assert back == samples
    assert all(type(value) is float for value in back)


def test_the_form_is_chosen_by_what_the_samples_are():
    assert pack_samples((1.25, 0.000001))[:1] == b"n"
    assert pack_samples((1.25, 1 / 3))[:1] == b"m"


def test_what_a_clock_gives_takes_less_than_half_of_doubles():
    samples = clock_samples(10_000)
    assert len(pack_samples(samples)) < 8 * len(samples) / 2


@pytest.mark.parametrize("packed", [b"", b"x123", b"n123", pack_samples((1.0, 2.0, 3.0))[:-3]])
def test_other_bytes_are_refused(packed: bytes):
    with pytest.raises(ValueError, match="samples"):
        unpack_samples(packed)
