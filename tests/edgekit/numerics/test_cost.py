import pytest

from edgekit.errors import ShapeError
from edgekit.numerics.cost import ProxyWeights, accumulator_bits, lut_proxy
from edgekit.numerics.number import find_number


@pytest.mark.parametrize(("name", "bits"), [("e2m3", 26), ("e3m2", 32), ("e3m3", 34), ("e4m3", 50), ("int8", 30)])
def test_accumulator_of_the_papers_longest_dot_product(name: str, bits: int) -> None:
    # 4608 = 512 * 3 * 3 products, the longest of ResNet-18; arXiv:2311.12359
    number = find_number(name)
    assert accumulator_bits(number, number, 4608) == bits


def test_accumulator_of_two_formats_and_of_exact_powers() -> None:
    first, second = find_number("e3m2"), find_number("e2m3")
    assert accumulator_bits(first, second, 1) == 8 + 2 + 4 + 3 - 1
    assert accumulator_bits(first, second, 64) == 16 + 6
    assert accumulator_bits(first, second, 65) == 16 + 7


@pytest.mark.parametrize("name", ["e2m1", "e3m2", "e1m3"])
def test_the_accumulator_holds_the_largest_sum(name: str) -> None:
    number = find_number(name)
    length = 40
    largest = round(number.largest / 2.0**number.smallest_exponent) ** 2 * length  # in units of the last place
    assert largest < 2 ** (accumulator_bits(number, number, length) - 1)


def test_proxy_by_hand() -> None:
    # e3m2 squared over 64: A = 8 + 2 + 8 + 2 + 6 - 1 = 25, ceil(log2(8 + 8)) = 4 stages
    number = find_number("e3m2")
    weights = ProxyWeights(product=2, exponent=3, shift=5, accumulate=7)
    assert lut_proxy(number, number, 64, weights) == 2 * 9 + 3 * 4 + 5 * 25 * 4 + 7 * 25
    integer = find_number("int4")
    assert lut_proxy(integer, integer, 64, weights) == 2 * 16 + 7 * (4 + 4 + 6 + 1)


def test_proxy_counts_exponent_bits_dearer_than_mantissa_bits() -> None:
    # the paper: an accumulator grows by 2^e with the exponent and by 1 with the mantissa
    costs = [lut_proxy(find_number(n), find_number(n), 4608) for n in ("int6", "e2m3", "e3m2", "e4m1")]
    assert costs == sorted(costs)


def test_mixed_kinds_have_no_cost() -> None:
    for pair in (("int8", "e4m3"), ("fp16", "fp16")):
        with pytest.raises(ShapeError):
            accumulator_bits(find_number(pair[0]), find_number(pair[1]), 9)
    with pytest.raises(ShapeError):
        accumulator_bits(find_number("int8"), find_number("int8"), 0)
