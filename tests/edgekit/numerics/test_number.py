import pytest

from edgekit.errors import ShapeError
from edgekit.numerics.number import Half, Integer, Minifloat, find_number, parse_number


@pytest.mark.parametrize(
    ("name", "largest", "smallest"),
    [  # arXiv:2311.12359 as implemented in brevitas; the last two are OCP's table of 8-bit formats
        ("e1m2", 3.5, 0.5),
        ("e2m1", 6, 0.5),
        ("e2m3", 7.5, 0.125),
        ("e3m0", 16, 0.25),
        ("e3m2", 28, 0.0625),
        ("e4m3", 480, 2**-9),
        ("e5m2", 114688, 2**-16),
        ("fp8_e4m3fn", 448, 2**-9),
        ("fp8_e5m2", 57344, 2**-16),
    ],
)
def test_largest_and_smallest_value_of_minifloats(name: str, largest: float, smallest: float) -> None:
    number = find_number(name)
    assert isinstance(number, Minifloat)
    assert number.largest == largest
    assert 2.0**number.smallest_exponent == smallest


@pytest.mark.parametrize(
    ("name", "number", "bits"),
    [
        ("int4", Integer(4), 4),
        ("e2m1", Minifloat(2, 1), 4),
        ("e5m2", Minifloat(5, 2), 8),
        ("fp8_e5m2", Minifloat(5, 2, reserved=4), 8),
        ("fp16", Half("fp16"), 16),
        ("bf16", Half("bf16"), 16),
    ],
)
def test_numbers_by_name(name: str, number: object, bits: int) -> None:
    assert find_number(name) == number
    assert find_number(name).bits == bits


@pytest.mark.parametrize("name", ["e0m3", "e1m0", "e5m3", "e4m31", "int1", "int17", "float8", ""])
def test_what_is_no_number_is_named(name: str) -> None:
    with pytest.raises(ShapeError) as caught:
        find_number(name)
    assert repr(name) in caught.value.what
    assert "int2 to int16" in caught.value.fix


def test_only_integers_are_parsed_as_integers() -> None:
    assert (parse_number("int8").qmin, parse_number("int8").qmax) == (-128, 127)
    with pytest.raises(ShapeError, match="e4m3"):
        parse_number("e4m3")
