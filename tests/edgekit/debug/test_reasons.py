"""Causes that the planted faults of test_compare.py do not reach."""

from dataclasses import replace

import numpy as np
import pytest

from edgekit.debug.bounds import Explained
from edgekit.debug.layers import Grid, Layer, Weight
from edgekit.debug.match import Pair
from edgekit.debug.reasons import Evidence, find_reason
from edgekit.debug.totals import Totals


def _weight(values: np.ndarray, step: float = 0.0, high: int = 0) -> Weight:
    return Weight(values.astype(np.float32), np.full((1,) * values.ndim, step), high)


def _evidence(reference: Layer, candidate: Layer, true: np.ndarray, own: np.ndarray, **others: object) -> Evidence:
    totals = Totals()
    totals.add_reference(true, candidate.grid)
    totals.add_own(true, own)
    totals.plain.add(own - true)
    given = {
        "pair": Pair(reference, candidate, tuple(range(true.ndim)), true.shape, true.shape, by_name=True),
        "totals": totals,
        "noise": Explained(1e-6, 0.0, 0.0, 1e-9),
        "coarse": False,
        "runtimes": ("fused", "plain"),
        "inputs": {},
        "true": true,
        "again": lambda inputs: {candidate.name: own},
    }
    return Evidence(**{**given, **others})  # type: ignore[arg-type]


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture
def values(random) -> np.ndarray:
    return random.normal(size=(4, 3, 5, 5)).astype(np.float32)


def _pair_of(ours: Weight, theirs: Weight) -> tuple[Layer, Layer]:
    layer = Layer("y", "y", "conv", ("x",), weight=ours, bias=np.zeros(3, np.float32))
    return layer, replace(layer, weight=theirs)


def test_weights_stored_as_the_ends_of_their_grid_overflow(random, values):
    exact = random.normal(size=(3, 40))
    stored = np.clip(np.rint(exact / 0.1), -10, 10) * 0.1
    beyond = (np.abs(exact) > 1.1).mean() * 100
    reason = find_reason(_evidence(*_pair_of(_weight(exact), _weight(stored, 0.1, 10)), values, values * 0.9))
    assert reason == f"its weights overflow: {beyond:.2g} % of them lie beyond the ends of their grid"


def test_one_wrong_scale_among_channels_is_counted(random, values):
    exact = random.normal(size=(4, 50))
    stored = np.rint(exact / 0.01) * 0.01 * np.array([1, 1, 0.5, 1])[:, None]
    reason = find_reason(_evidence(*_pair_of(_weight(exact), _weight(stored, 0.01, 999)), values, values * 0.9))
    assert reason == "its weights are 0.5 times the reference's in 1 of 4 channels: a scale is wrong"


def test_weights_of_another_network_are_told_apart_from_a_wrong_scale(random, values):
    pair = _pair_of(_weight(random.normal(size=(3, 50))), _weight(random.normal(size=(3, 50)), 0.01, 999))
    reason = find_reason(_evidence(*pair, values, values * 0.5))
    assert reason.startswith("its weights are not the reference's: -")
    assert "where rounding to their grid explains 5" in reason  # 10 log10(12 / 0.01^2) is 50.8


def test_weights_that_are_only_rounded_are_not_blamed(random, values):
    exact = random.normal(size=(3, 50))
    layers = _pair_of(_weight(exact), _weight(np.rint(exact / 0.01) * 0.01, 0.01, 999))
    own = values + random.normal(size=values.shape).astype(np.float32) * 0.1
    assert find_reason(_evidence(*layers, values, own)).startswith("its own error (")


def test_a_bias_that_is_off_is_told_by_how_much(values):
    layer = Layer("y", "y", "conv", ("x",), bias=np.array([1.0, 2.0, -3.0], np.float32))
    shift = np.array([0.0, 0.0, 0.25], np.float32)
    other = replace(layer, bias=layer.bias + shift)
    reason = find_reason(_evidence(layer, other, values, values + shift.reshape(1, 3, 1, 1)))
    assert reason == "its bias is off by up to 0.25 (the reference's reaches 3)"


def test_a_constant_that_no_bias_explains_is_told(values):
    layer = Layer("y", "y", "averagepool", ("x",))
    reason = find_reason(_evidence(layer, layer, values, values + np.float32(0.3)))
    assert reason == "100 % of its error is one constant a channel: a bias, a zero point or a mean is wrong"


def test_saturation_needs_to_be_most_of_the_error(random, values):
    layer = Layer("y", "y", "add", ("x",))
    narrow = replace(layer, grid=Grid(0.01, 0, -128, 127))
    own = np.clip(values, -1.28, 1.27)
    assert find_reason(_evidence(layer, narrow, values, own)).startswith("saturation: ")
    noisy = own + random.normal(size=values.shape).astype(np.float32)
    assert not find_reason(_evidence(layer, narrow, values, noisy)).startswith("saturation")


@pytest.mark.parametrize(
    ("told", "change"),
    [
        ("its channels reversed", lambda x: x[:, ::-1]),
        ("its channels in the order 1, 2, 0", lambda x: x[:, [1, 2, 0]]),
        ("its height and width swapped", lambda x: x.transpose(0, 1, 3, 2)),
        ("its memory read as channels-last", lambda x: x.reshape(4, 5, 5, 3).transpose(0, 3, 1, 2)),
        ("its values times 255", lambda x: x * 255),
        ("its values from [0, 1] moved to [-1, 1]", lambda x: 2 * x - 1),
    ],
)
def test_what_an_input_is_mistaken_for_is_named(told, change, values):
    """The candidate wants its input changed; it is one number times it, so any mistake shows."""

    def own(x: np.ndarray) -> np.ndarray:
        return values - change(values) + x  # right for the changed input alone

    layer = Layer("y", "y", "conv", ("input:x",))
    evidence = _evidence(
        layer,
        layer,
        values,
        own(values),
        inputs={"input:x": values},
        again=lambda given: {"y": own(given.get("input:x", values))},
    )
    assert find_reason(evidence).startswith(f"layout or preprocessing of 'x': with {told} the layer has ")


def test_an_input_that_nothing_mends_is_not_blamed(random, values):
    layer = Layer("y", "y", "conv", ("input:x",))
    wrong = random.normal(size=values.shape).astype(np.float32)
    evidence = _evidence(layer, layer, values, wrong, inputs={"input:x": values})
    assert find_reason(evidence).startswith("its own error (")


def test_a_coarse_grid_says_how_little_of_it_is_used(values):
    layer = Layer("y", "y", "add", ("x",), grid=Grid(1.0, 0, -128, 127))
    noise = Explained(0.0, 0.0, 1 / 12, 0.0)
    reason = find_reason(_evidence(layer, layer, values, np.rint(values), coarse=True, noise=noise))
    span = values.max() - values.min()
    assert reason.startswith("its output's grid is too coarse: the layer alone has ")
    assert reason.endswith(f"the values seen span {span:.0f} of 255 steps of 1")
