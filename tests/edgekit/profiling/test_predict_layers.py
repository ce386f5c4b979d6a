"""Layers of profiles are found again in the file, and what was learned of them predicts kernels that were not seen."""

import math

import numpy as np
import pytest

from edgekit.profiling.predict import Measured, fit
from edgekit.profiling.predict_costs import GraphCosts, KernelCost
from edgekit.profiling.predict_layers import (
    LEARNERS,
    fit_layers,
    learn_boosting,
    learn_rates,
    match,
    relative_rates,
)
from edgekit.schema.profile import LayerRow


def kernel(name: str, macs: int, kind="dense", values: int = 1000, weights: int = 100, fused: str = "") -> KernelCost:
    names = {f"node_{name}", name} | ({fused} if fused else set())
    return KernelCost(f"node_{name}", name, kind, macs, values, weights, frozenset(names))


def layer(name: str, operator: str, mean_ms: float) -> LayerRow:
    return LayerRow(name=name, operator=operator, precision="fp32", mean_ms=mean_ms, ratio=0.1, runs=20)


def test_layers_are_matched_by_the_names_that_onnx_runtime_gives():
    costs = GraphCosts(
        (
            kernel("conv2d", 10, fused="relu"),
            kernel("conv2d_1", 20),
            kernel("conv2d_2", 30),
            kernel("add", 0, "other", fused="relu_1"),
            kernel("linear", 5, "linear"),
        ),
        "fp32",
    )
    rows = [
        layer("ReorderInput", "ReorderInput", 0.1),
        layer("conv2d_1_nchwc", "Conv", 2.0),  # before the first, as the runtime orders them
        layer("relu_nchwc", "Conv", 1.0),  # the activation is fused into it
        layer("relu_1_nchwc", "Conv", 3.0),  # a sum and its activation are
        layer("InsertedPrecisionFreeCast_linear_token_7", "FusedGemm", 0.5),
        layer("mean", "GlobalAveragePool", 0.2),
    ]  # 6.8 in all
    found = match(costs, rows, 3.4)
    assert [(one.name, pytest.approx(ms)) for one, ms in found.kernels] == [
        ("node_conv2d", 0.5),  # the profiler's times share out the p50, which was half of their sum
        ("node_conv2d_1", 1.0),
        ("node_conv2d_2", 1.5),
        ("node_linear", 0.25),
    ]
    assert found.other_ms == pytest.approx(0.15)


def test_what_cannot_be_matched_is_charged_to_the_whole():
    costs = GraphCosts((kernel("a", 10), kernel("b", 20)), "int8")
    found = match(costs, [layer("node_a_token_3", "QLinearConv", 1.0)], 1.0)
    assert [ms for _, ms in found.kernels] == [1.0]
    strange = [layer("x", "QLinearConv", 1.0), layer("y", "QLinearConv", 2.0), layer("z", "QLinearConv", 4.0)]
    assert (match(costs, strange, 1.0).kernels, match(costs, strange, 1.0).other_ms) == ((), 1.0)


def pairs(count: int, ms_of, seed: int = 0):
    generator = np.random.default_rng(seed)
    found = []
    for index in range(count):
        kind = ("dense", "depthwise")[index % 2]
        macs, values, weights = (int(n) for n in np.exp(generator.uniform(7, 15, 3)))
        one = kernel(f"k{index}", macs, kind, values, weights)
        found.append((one, ms_of(one)))
    return found


def truth(one: KernelCost) -> float:
    rate = 2e-8 if one.kind == "dense" else 2e-7
    return rate * one.macs + 1e-9 * one.moved_bytes("fp32") + 0.004


def test_rates_tell_kinds_apart():
    predict = learn_rates(pairs(40, truth), "fp32")
    for kind in ("dense", "depthwise"):
        unseen = kernel("new", 3_000_000, kind, 50_000, 4_000)
        assert predict(unseen) == pytest.approx(truth(unseen), rel=1e-3)
    few = learn_rates(pairs(4, truth), "fp32")  # of neither kind enough, so all are one
    assert few(kernel("new", 10**6, "linear")) > 0


def test_boosting_learns_what_is_not_linear():
    def bent(one: KernelCost) -> float:
        return 1e-6 * one.macs**0.7

    predict = learn_boosting(pairs(300, bent), "fp32")
    unseen = pairs(60, bent, seed=1)
    errors = [abs(math.log(predict(one) / ms)) for one, ms in unseen]
    assert float(np.median(errors)) < 0.15


def network(index: int, *, layered: bool = True, ratio: float = 0.8) -> Measured:
    """A network whose layers take what `truth` says, and a run `ratio` of their sum."""
    own = [one for one, _ in pairs(12, truth, seed=index)]
    pool = kernel("pool", 0, "other", 4000, 0)
    rows = (*(layer(one.name, "Conv", truth(one)) for one in own), layer("mean", "GlobalAveragePool", 0.01))
    whole_ms = sum(row.mean_ms for row in rows)
    return Measured(f"net{index}", GraphCosts((*own, pool), "fp32"), ratio * whole_ms, rows if layered else ())


def test_a_network_is_the_sum_of_its_layers_less_the_profiler():
    known = [network(index) for index in range(4)]
    found = [match(one.costs, one.layers, one.ms) for one in known]
    unseen = network(9)
    made = fit_layers(found, "fp32", "rates of each kind of layer")
    assert made.predict_ms(unseen.costs) == pytest.approx(unseen.ms, rel=0.01)


def test_layers_are_preferred_where_they_miss_less():
    layered = fit([network(index) for index in range(6)], "fp32")
    assert layered.method in LEARNERS
    assert layered.bar_ratio < 1.05
    plain = fit([network(index, layered=False) for index in range(6)], "fp32")
    assert plain.method not in LEARNERS
    assert plain.bar_ratio > layered.bar_ratio


def test_relative_rates_are_never_negative():
    rows = np.array([[1.0, 10.0], [2.0, 5.0], [4.0, 1.0]])
    np.testing.assert_allclose(relative_rates(rows, [10.0, 5.0, 1.0]), [0.0, 1.0], atol=1e-9)
