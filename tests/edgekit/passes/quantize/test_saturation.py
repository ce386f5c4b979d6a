import math

import pytest
import torch
from torch import Tensor, nn

from edgekit.data.observers import Histogram
from edgekit.nets.load import find_outputs
from edgekit.nets.model import Model
from edgekit.nets.program import Program, trace
from edgekit.nets.quantisation import EdgeRange
from edgekit.passes.quantize.saturation import narrow_summands, saturate
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec
from tests import nets

SIGMOID_END, TANH_END = math.log(511), math.log(511) / 2


class Gates(nn.Module):
    """left + right is halved: one half is gated by sigmoid, the other by tanh or read as it is."""

    def __init__(self, second: str) -> None:
        super().__init__()
        self.left, self.right, self.second = nn.Linear(3, 4), nn.Linear(3, 4), second

    def forward(self, x: Tensor) -> Tensor:
        difference = self.second.startswith("sub ")
        left, right = self.left(x), self.right(x)
        first, second = (left - right if difference else left + right).chunk(2, 1)
        reads = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "as it is": lambda value: value}
        return first.tanh() * reads[self.second.removeprefix("sub ")](second)


def gates(second: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Gates(second).eval()


def _program(second: str) -> Program:
    source = ModelSource(
        factory="tests.edgekit.passes.quantize.test_saturation:gates",
        arguments={"second": second},
        inputs=(InputSpec(name="x", shape=(1, 3), layout="NC"),),
    )
    network = gates(second)
    return trace(Model(network, source, find_outputs(network, source)))


def _cut(second: str, **ranges: tuple[float, float]) -> dict[str, tuple[float, float]]:
    program = _program(second)
    edges = {name: EdgeRange(-40.0, 60.0, 100 / 255, -26) for name in program.names.values()}
    edges |= {f"{name}/linear": EdgeRange(*ends, 1.0, 0) for name, ends in ranges.items()}
    return {name: (edge.low, edge.high) for name, edge in saturate(program, edges).items()}


def test_a_sum_is_cut_to_where_the_widest_of_its_readers_still_changes():
    assert _cut("tanh")["/add"] == pytest.approx((-TANH_END, TANH_END))
    found = _cut("sigmoid")
    assert found["/add"] == pytest.approx((-SIGMOID_END, SIGMOID_END))
    assert found["/slice"] == pytest.approx((-TANH_END, TANH_END))
    assert found["/slice_1"] == pytest.approx((-SIGMOID_END, SIGMOID_END))
    assert found["/sigmoid"] == (-40.0, 60.0)  # its reader tells everything apart


def test_what_is_also_read_as_it_is_keeps_its_range():
    found = _cut("as it is", left=(-9.0, 30.0), right=(-2.0, 7.0))
    assert found["/add"] == (-40.0, 60.0)
    assert found["left/linear"] == (-9.0, 30.0)


def test_a_summand_is_cut_to_what_the_other_one_can_bring_back():
    found = _cut("tanh", left=(-9.0, 30.0), right=(-2.0, 7.0))
    assert found["left/linear"] == pytest.approx((-9.0, TANH_END + 2.0))  # -TANH_END - 7 is below -9
    assert found["right/linear"] == pytest.approx((-2.0, 7.0))
    found = _cut("sub tanh", left=(-9.0, 30.0), right=(-2.0, 50.0))
    assert found["left/linear"] == pytest.approx((-TANH_END - 2.0, 30.0))
    assert found["right/linear"] == pytest.approx((-2.0, 30.0 + TANH_END))


def test_it_holds_at_the_first_step_where_the_other_summand_is_stored():
    program = trace(nets.recurrent("lstm", steps=2))
    edges = {name: EdgeRange(-40.0, 60.0, 100 / 255, -26) for name in program.names.values()}
    edges["lstm/linear_1"] = EdgeRange(-2.0, 7.0, 1.0, 0)  # W h
    found = saturate(program, edges)
    assert (found["lstm/linear"].low, found["lstm/linear"].high) == pytest.approx((-SIGMOID_END - 7, SIGMOID_END + 2))


def test_nothing_that_a_gate_gives_changes_by_more_than_half_a_code():
    ends = torch.tensor([SIGMOID_END, 40.0], dtype=torch.float64)
    assert (ends.sigmoid()[1] - ends.sigmoid()[0]) * 256 == pytest.approx(0.5)
    ends = torch.tensor([TANH_END, 40.0], dtype=torch.float64)
    assert (ends.tanh()[1] - ends.tanh()[0]) * 128 == pytest.approx(0.5)


def test_more_bits_tell_more_apart_and_the_grid_fits_the_new_range():
    program = _program("tanh")
    wide = EdgeRange(-40.0, 60.0, 100 / 65535, -6554, "int16")
    edge = saturate(program, dict.fromkeys(program.names.values(), wide))["/add"]
    end = math.log(2**17 - 1) / 2
    assert (edge.low, edge.high, edge.number) == (pytest.approx(-end), pytest.approx(end), "int16")
    assert edge.scale == pytest.approx(2 * end / 65535)


def _narrowed(program: Program) -> set[str]:
    """Names of the edges that are shrunk where all values are normal, with a deviation of 2."""
    edges = dict.fromkeys(program.names.values(), EdgeRange(-8.0, 8.0, 16 / 255, 0))
    histogram = Histogram()
    histogram.add(2 * torch.randn(9999, generator=torch.Generator().manual_seed(0)))
    found = narrow_summands(program, edges, dict.fromkeys(edges, histogram))
    shrunk = {name for name in edges if found[name] != edges[name]}
    for name in shrunk:
        assert -8.0 < found[name].low < -2.0
        assert found[name].scale == pytest.approx((found[name].high - found[name].low) / 255)
    return shrunk


def test_summands_that_only_gates_read_are_shrunk_to_what_loses_least_there():
    assert _narrowed(_program("sigmoid")) == {"left/linear", "right/linear"}
    assert _narrowed(_program("as it is")) == set()
    assert _narrowed(_program("sub tanh")) == set()  # not looked into
    assert _narrowed(trace(nets.recurrent("lstm", steps=3))) == {"lstm/linear", "lstm/linear_1"}
    assert _narrowed(trace(nets.recurrent("gru", steps=3))) == {
        f"{layer}/linear{which}" for layer in ("gates", "candidate") for which in ("", "_1")
    }
