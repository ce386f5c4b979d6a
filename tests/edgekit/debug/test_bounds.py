"""Each noise against rounding itself: the closed form must be what rounding really costs, to within a few per cent."""

from dataclasses import replace

import numpy as np
import pytest

from edgekit.debug.bounds import explain
from edgekit.debug.layers import INPUT, Grid, Layer, Weight
from edgekit.debug.match import Pair
from edgekit.debug.totals import Totals

SAMPLES, CHANNELS, OUTPUTS = 4000, 24, 32


def _pair(layer: Layer, candidate: Layer | None = None) -> Pair:
    return Pair(layer, candidate or layer, (0, 1), (1, 1), (1, 1), by_name=True)


def _float(values: np.ndarray) -> Weight:
    return Weight(values, np.zeros((1,) * values.ndim))


def _seen(values: np.ndarray) -> Totals:
    totals = Totals()
    totals.add_reference(values.astype(np.float32), None)
    return totals


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


def test_noise_of_the_output_is_a_twelfth_of_the_squared_step(random):
    grid = Grid(0.02, 0, -128, 127)
    values = random.uniform(-2, 2, (SAMPLES, CHANNELS)).astype(np.float32)
    layer = Layer("y", "y", "add", (), grid=grid)
    noise = explain(_pair(replace(layer, grid=None), layer), {"y": _seen(values)})
    error = grid.decode(grid.encode(values)) - values
    assert noise.output == pytest.approx(0.02**2 / 12)
    assert noise.output == pytest.approx(float(np.square(error).mean()), rel=0.03)
    assert noise.largest == "its output's grid"


def test_a_grid_that_covers_less_than_what_is_seen_counts_as_one_that_covers_it():
    values = np.array([[-3.0, 5.0]], np.float32)
    layer = Layer("y", "y", "add", (), grid=Grid(0.01, 0, 0, 80))
    noise = explain(_pair(replace(layer, grid=None), layer), {"y": _seen(values)})
    assert noise.output == pytest.approx(0.1**2 / 12)  # 8 over 80 steps


def test_noise_of_weights_is_what_rounding_them_costs(random):
    weight = random.normal(size=(OUTPUTS, CHANNELS)).astype(np.float32)
    step = np.abs(weight).max(1, keepdims=True) / 15
    x = random.normal(size=(SAMPLES, CHANNELS)) + 0.7  # a mean, as behind a ReLU
    rounded = Weight((np.rint(weight / step) * step).astype(np.float32), step.astype(np.float64), 15)
    reference = Layer("y", "y", "linear", ("x",), weight=_float(weight))
    totals = {"x": _seen(x), "y": _seen(x @ weight.T)}
    noise = explain(_pair(reference, replace(reference, weight=rounded)), totals)
    error = x @ (rounded.values - weight).T
    assert noise.weights == pytest.approx(float(np.square(error).mean()), rel=0.25)
    assert noise.largest == "its weights' grid"


def test_channels_of_a_depthwise_convolution_count_their_own_inputs(random):
    size = np.where(np.arange(CHANNELS) % 2, 50.0, 0.02)  # loud channels have small weights, and the reverse
    weight = (random.normal(size=(CHANNELS, 1, 3, 3)) / size.reshape(-1, 1, 1, 1)).astype(np.float32)
    step = np.abs(weight).max((1, 2, 3), keepdims=True) / 127
    x = random.normal(size=(400, CHANNELS, 3, 3)) * size.reshape(1, -1, 1, 1)
    rounded = Weight((np.rint(weight / step) * step).astype(np.float32), step.astype(np.float64), 127)
    reference = Layer("y", "y", "conv", ("x",), weight=_float(weight))
    error = np.einsum("nchw,cdhw->nc", x, rounded.values - weight)
    noise = explain(
        _pair(reference, replace(reference, weight=rounded)), {"x": _seen(x), "y": _seen(np.ones((1, CHANNELS)))}
    )
    assert noise.weights == pytest.approx(float(np.square(error).mean()), rel=0.4)


def test_a_channel_without_weights_makes_no_noise_whatever_its_scale():
    weight = np.zeros((1, 4), np.float32)
    stored = Weight(weight, np.ones((1, 1)), 127)
    reference = Layer("y", "y", "linear", ("x",), weight=_float(weight))
    totals = {"x": _seen(np.ones((1, 4))), "y": _seen(np.ones((1, 1)))}
    assert explain(_pair(reference, replace(reference, weight=stored)), totals).weights == 0


def test_both_sides_have_noise_of_their_own():
    grid = Grid(0.02, 0, -128, 127)
    layer = Layer("y", "y", "add", (), grid=grid)
    totals = {"y": _seen(np.array([[1.0]]))}
    assert explain(_pair(layer, layer), totals).output == pytest.approx(2 * 0.02**2 / 12)


def test_noise_of_inputs_is_what_the_reference_made_of_them():
    totals = _seen(np.ones((2, 2)))
    totals.input_noise = 0.4
    noise = explain(_pair(Layer("y", "y", "softmax", ())), {"y": totals})
    assert noise.inputs == pytest.approx(0.1)
    assert noise.total == pytest.approx(0.1 + noise.arithmetic)


@pytest.mark.parametrize(("dtype", "ratio"), [("float32", 1e-8), ("float16", 1e-4)])
def test_arithmetic_rounds_as_far_as_its_format_does(dtype, ratio):
    layer = Layer("y", "y", "conv", ())
    noise = explain(_pair(layer, replace(layer, dtype=dtype)), {"y": _seen(np.full((1, 2), 3.0))})
    assert noise.arithmetic == pytest.approx(9 * ratio)


def test_clipping_is_explained_only_where_it_is_asked_for():
    totals = _seen(np.ones((2, 2)))
    totals.clip_squares = 2.0
    pair = _pair(Layer("input:x", "x", INPUT, ()))
    assert explain(pair, {"input:x": totals}).clipping == 0
    assert explain(pair, {"input:x": totals}, clipping=True).clipping == pytest.approx(0.5)
