"""Estimates: rates that are found again, error bars that come from networks left out, and never a Profile."""

import dataclasses
import math

import pytest

from edgekit.errors import DataError
from edgekit.profiling.predict import COVERED, Measured, estimate, fit, roofline_ms
from edgekit.profiling.predict_costs import GraphCosts, KernelCost
from edgekit.schema.load import load_target
from edgekit.schema.profile import Profile

PI5 = load_target("raspberry-pi-5").target
CPU = load_target("cpu-x86-64").target


def network(macs: int, kernels: int, precision="fp32", kind="dense") -> GraphCosts:
    each = macs // kernels
    made = tuple(KernelCost(f"k{i}", f"t{i}", kind, each, each // 50 + 10 * i, each // 90) for i in range(kernels))
    return GraphCosts(made, precision)


def measured(count: int, ms_of, precision="fp32") -> list[Measured]:
    """Networks whose MACs and kernels are not proportional to each other."""
    nets = [network((3 + 17 * i * i) * 100_000, 3 + (7 * i) % 11, precision) for i in range(count)]
    return [Measured(f"net{i}", net, ms_of(net, i)) for i, net in enumerate(nets)]


def test_rates_that_made_the_times_are_found_again():
    found = fit(measured(8, lambda net, i: net.macs * 2e-8 + len(net.kernels) * 0.004), "fp32")
    assert found.networks == 8
    unseen = network(9_000_000, 5)
    assert found.predict_ms(unseen) == pytest.approx(unseen.macs * 2e-8 + 5 * 0.004, rel=1e-3)
    assert found.bar_ratio == pytest.approx(1.0, abs=0.01)


def test_the_error_bar_is_how_far_networks_left_out_are_missed():
    def exact(net):
        return net.macs * 2e-8

    def noisy(net, i):
        return exact(net) * (1.5 if i % 2 else 1.0)

    found = fit(measured(10, noisy), "fp32")
    assert 1.1 < found.bar_ratio < 1.8
    assert found.error_ratio <= found.bar_ratio
    ranked = sorted(abs(error) for error in found.errors)
    assert COVERED == 0.8
    assert found.bar_ratio == math.exp(ranked[9 - 1])  # of rank ceil(11 * 0.8), for the network that is asked about
    assert fit(measured(10, lambda net, i: exact(net)), "fp32").bar_ratio < 1.001


def test_a_network_that_is_left_out_teaches_nothing():
    found = fit(measured(4, lambda net, i: net.macs * 2e-8 * (3 if i == 0 else 1)), "fp32")
    assert found.method == "rates for MACs"  # three others are too few for more
    assert found.errors[0] == pytest.approx(-math.log(3))


def test_a_network_has_no_say_in_how_it_is_judged():
    known = measured(4, lambda net, i: 1.0)

    def missing(by: dict[str, float]):
        """Misses every network by a given factor, whatever it learned from."""
        factors = {one.costs.macs: by[one.network] for one in known}
        return lambda own, precision: lambda costs: factors[costs.macs]

    kind_to_net0 = missing({"net0": 1.0, "net1": 1.5, "net2": 1.5, "net3": 1.5})
    better_elsewhere = missing({"net0": 9.0, "net1": 1.4, "net2": 1.4, "net3": 1.4})
    found = fit(known, "fp32", {"kind": kind_to_net0, "better": better_elsewhere})
    assert found.method == "kind"
    assert found.errors == pytest.approx([math.log(9), *[math.log(1.5)] * 3])


def test_forms_of_one_network_are_left_out_together():
    # the same network twice: were one form kept while the other is left out, it would be predicted exactly
    single = measured(6, lambda net, i: net.macs * (1e-8 + 4e-9 * i))
    double = single + [dataclasses.replace(one) for one in single]
    assert fit(double, "fp32").networks == 6
    assert fit(double, "fp32").error_ratio == pytest.approx(fit(single, "fp32").error_ratio, rel=0.2)
    assert fit(double, "fp32").error_ratio > 1.05


def test_few_networks_and_another_precision_are_refused():
    with pytest.raises(DataError):
        fit(measured(3, lambda net, i: 1.0), "fp32")
    with pytest.raises(DataError):
        fit(measured(8, lambda net, i: 1.0, "int8"), "fp32")


def test_the_roofline_is_the_slower_of_computing_and_moving():
    peak, bandwidth = PI5.peak["int8"].value * 1e12, PI5.bandwidth.value * 1e9
    computing = KernelCost("c", "c", "dense", 10**9, 100, 100)
    moving = KernelCost("m", "m", "other", 0, 10**6, 0)
    costs = GraphCosts((computing, moving), "fp32")
    assert roofline_ms(costs, PI5, "int8") == pytest.approx(1e3 * (2e9 / peak + 1e6 / bandwidth))
    assert roofline_ms(costs, PI5, "fp16") is None  # no peak is published
    assert roofline_ms(costs, CPU, "fp32") is None


def test_without_measurements_there_is_a_floor_or_nothing():
    costs = network(40_000_000, 20)
    floor = estimate(costs, PI5, "onnxruntime", "fp32", [])
    assert (floor.ms, floor.high_ms) == (None, None)
    assert floor.low_ms == floor.floor_ms == roofline_ms(costs, PI5, "fp32")
    assert floor.text.startswith("estimate: not below ")
    nothing = estimate(costs, CPU, "onnxruntime", "fp32", [])
    assert (nothing.ms, nothing.low_ms, nothing.text) == (None, None, "no estimate")
    assert "publishes no peak" in nothing.basis


def test_an_estimate_has_its_bar_and_stays_above_the_floor():
    known = measured(8, lambda net, i: net.macs * 2e-8 * (1.2 if i % 2 else 1.0))
    found = estimate(network(40_000_000, 20), CPU, "onnxruntime", "fp32", known)
    assert found.low_ms < found.ms < found.high_ms
    assert found.text == f"estimate {found.ms:.3g} ms ({found.low_ms:.3g} to {found.high_ms:.3g})"
    assert "8 networks measured" in found.basis
    fast = measured(8, lambda net, i: net.macs * 1e-12)  # faster than the data sheet allows
    bounded = estimate(network(40_000_000, 20), PI5, "onnxruntime", "fp32", fast)
    assert bounded.ms == bounded.low_ms == bounded.floor_ms


def test_an_estimate_is_no_profile_and_none_can_be_made_of_it():
    found = estimate(network(40_000_000, 20), PI5, "onnxruntime", "fp32", [])
    assert not isinstance(found, Profile)
    with pytest.raises(ValueError, match="Field required"):
        Profile.model_validate(dataclasses.asdict(found))
    names = {field.name for field in dataclasses.fields(found)}
    assert not names & {"valid", "samples_ms", "summary", "measured_at"}  # what gates and comparisons read
