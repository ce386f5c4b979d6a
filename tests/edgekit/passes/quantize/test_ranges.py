"""Grids of activations by each observer, from histograms whose best answer is known."""

import numpy as np
import pytest
import torch

from edgekit.data.observers import Histogram
from edgekit.errors import PassError
from edgekit.nets.quantisation import EdgeRange
from edgekit.numerics.quantise import affine_grid
from edgekit.passes.quantize.ranges import OBSERVERS, decide_edge
from edgekit.schema.passes import QuantizeOptions


def _histogram(values: torch.Tensor) -> Histogram:
    histogram = Histogram()
    histogram.add(values)
    return histogram


def _decide(values: torch.Tensor, **options: object) -> EdgeRange:
    return decide_edge("edge", _histogram(values), QuantizeOptions(**options))  # type: ignore[arg-type]


def _normal(count: int = 50_000) -> torch.Tensor:
    values = torch.randn(count, generator=torch.Generator().manual_seed(0))
    values[0] = 30.0
    return values


def test_observers_differ_on_an_outlier_as_they_should() -> None:
    high = {observer: _decide(_normal(), observer=observer, percentile=0.999).high for observer in OBSERVERS}
    assert high["min-max"] == 30.0
    assert high["percentile"] == pytest.approx(float(np.quantile(_normal().numpy(), 0.9995)), abs=30 / 2048)
    assert high["percentile"] < high["entropy"] < high["mse"] < 30.0


@pytest.mark.parametrize("observer", OBSERVERS)
def test_the_grid_is_that_of_the_range(observer: str) -> None:
    edge = _decide(_normal(), observer=observer, activations="int8")
    assert (edge.scale, edge.zero_point) == affine_grid(edge.low, edge.high, -128, 127)
    assert edge.number == "int8"


def test_fewer_bits_cut_more() -> None:
    for observer in ("mse", "entropy"):
        wide, narrow = (_decide(_normal(), observer=observer, activations=number) for number in ("int8", "int4"))
        assert narrow.high < wide.high, observer


def test_sixteen_bits_leave_entropy_nothing_to_cut() -> None:
    assert _decide(_normal(), observer="entropy", activations="int16").high == 30.0


@pytest.mark.parametrize("observer", OBSERVERS)
def test_an_activation_that_is_always_zero_has_a_grid(observer: str) -> None:
    edge = _decide(torch.zeros(10), observer=observer)
    assert (edge.low, edge.high) == (0.0, 0.0)
    assert edge.scale > 0


@pytest.mark.parametrize("observer", OBSERVERS)
def test_a_range_behind_a_relu_starts_at_zero(observer: str) -> None:
    edge = _decide(_normal().relu(), observer=observer)
    assert (edge.low, edge.zero_point) == (0.0, -128)


@pytest.mark.parametrize("observer", OBSERVERS)
def test_one_value_is_covered(observer: str) -> None:
    assert _decide(torch.full((100,), 3.0), observer=observer).high == pytest.approx(3.0, rel=0.02)


@pytest.mark.parametrize(
    ("name", "where"),
    [("block.1/add", "layer block.1"), ("/add", "layer (the network itself)"), ("input:x", "input:x")],
)
@pytest.mark.parametrize(("value", "said"), [("inf", "an infinity"), ("-inf", "an infinity"), ("nan", "NaN")])
def test_what_is_not_finite_is_refused_with_its_layer(name: str, where: str, value: str, said: str) -> None:
    with pytest.raises(PassError) as caught:
        decide_edge(name, _histogram(torch.tensor([1.0, float(value)])), QuantizeOptions())
    assert said in caught.value.what
    assert caught.value.where == f"step quantize, {where}"
