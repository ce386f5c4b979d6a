import numpy as np
import pytest

from edgekit.numerics.gated import GATES, Spread, gated_range, spread

NOTHING = Spread(np.zeros(1), np.ones(1))


def _at(*values: float, shares: tuple[float, ...] | None = None) -> Spread:
    even = np.full(len(values), 1 / len(values))
    return Spread(np.array(values), even if shares is None else np.array(shares))


def test_a_spread_is_the_means_and_shares_of_equal_stretches():
    found = spread(np.arange(8.0), np.array([0, 1, 3, 0, 0, 0, 2, 2]), points=3)
    # filled are 1 to 7: stretches 1 to 3, 4 and 5, 6 and 7
    np.testing.assert_allclose(found.values, [(1 + 3 * 2) / 4, 6.5])
    np.testing.assert_allclose(found.shares, [0.5, 0.5])
    silent = spread(np.arange(4.0), np.zeros(4, np.int64))
    assert (silent.values.tolist(), silent.shares.tolist()) == ([0.0], [1.0])


@pytest.mark.parametrize("gate", GATES)
def test_slopes_are_those_of_the_gates(gate: str):
    gives, slope = GATES[gate]
    x = np.linspace(-4, 4, 9)
    np.testing.assert_allclose((gives(x + 1e-5) - gives(x - 1e-5)) / 2e-5, slope(x), rtol=1e-7, atol=1e-9)
    assert gives(np.array([1.0]))[0] == pytest.approx({"sigmoid": 0.7310586, "tanh": 0.7615942}[gate])


def test_what_a_gate_no_longer_tells_apart_is_cut_off():
    seen = _at(-50.0, -0.5, 0.5, 50.0)
    _, high = gated_range(seen, [("tanh", NOTHING)], -50.0, 50.0, -128, 127)
    assert high < 15.0
    # 50 - 50 is where tanh changes most, though only one value in a hundred is there
    _, high = gated_range(seen, [("tanh", _at(0.0, -50.0, shares=(0.99, 0.01)))], -50.0, 50.0, -128, 127)
    assert high >= 47.5


def test_the_steepest_of_several_gates_decides():
    seen = _at(*np.linspace(-8.0, 8.0, 65))
    _, tanh = gated_range(seen, [("tanh", NOTHING)], -8.0, 8.0, -128, 127)
    _, sigmoid = gated_range(seen, [("sigmoid", NOTHING)], -8.0, 8.0, -128, 127)
    _, both = gated_range(seen, [("sigmoid", NOTHING), ("tanh", NOTHING)], -8.0, 8.0, -128, 127)
    assert tanh < sigmoid < 8.0
    assert tanh <= both < 8.0


def test_a_gate_that_is_nearly_linear_keeps_the_whole_range():
    assert gated_range(_at(*np.linspace(-0.1, 0.1, 33)), [("tanh", NOTHING)], -0.1, 0.1, -128, 127) == (-0.1, 0.1)
