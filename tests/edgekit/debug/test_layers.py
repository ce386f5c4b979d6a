import numpy as np
import pytest

from edgekit.debug.layers import INPUT, Grid, Layer, Weight, inputs_of


def test_a_grid_rounds_half_to_even_and_clips():
    grid = Grid(scale=0.5, zero_point=-3, qmin=-8, qmax=7)
    values = np.array([-9.0, -2.5, 0.0, 0.25, 0.75, 0.8, 99.0], np.float32)
    assert grid.encode(values).tolist() == [-8, -8, -3, -3, -1, -1, 7]
    assert grid.decode(np.array([-8, -3, 7], np.int8)).tolist() == [-2.5, 0.0, 5.0]
    assert (grid.low, grid.high) == (-2.5, 5.0)


def test_an_unsigned_grid_is_decoded_without_wrapping():
    grid = Grid(scale=0.1, zero_point=200, qmin=0, qmax=255)
    assert grid.decode(np.array([0, 255], np.uint8)) == pytest.approx([-20.0, 5.5])


def test_inputs_are_the_layers_of_kind_input():
    class Two:
        layers = (Layer("input:a", "a", INPUT, ()), Layer("x", "x", "conv", ("input:a",)))

    assert [layer.name for layer in inputs_of(Two())] == ["input:a"]  # type: ignore[arg-type]


def test_steps_of_groups_are_found_from_their_largest_numbers():
    values = np.array([[7, -1, 0, 14, 3], [1, -3.5, 2, 0, 0]], np.float32).reshape(2, 5, 1)
    weight = Weight(values, np.zeros((1, 1, 1))).rounded_to(bits=4, group=3)
    assert weight.step.reshape(2, 5).tolist() == [[1, 1, 1, 2, 2], [0.5, 0.5, 0.5, 0, 0]]
    assert weight.high == 7
    whole = Weight(values, np.zeros((1, 1, 1))).rounded_to(bits=4, group=None)
    assert whole.step.reshape(2, 5).tolist() == [[2] * 5, [0.5] * 5]
