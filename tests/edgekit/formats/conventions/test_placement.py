"""Where Q/DQ go, convention by convention, on networks small enough to say it by hand."""

from dataclasses import replace

import pytest
import torch
from torch import fx, nn

from edgekit.errors import FormatError
from edgekit.formats.conventions.convention import CONVENTIONS, find_convention
from edgekit.formats.conventions.placement import Placement, place
from edgekit.nets.model import Model
from edgekit.nets.program import Program, trace
from edgekit.nets.quantisation import EdgeRange, Kept, QuantisationTable
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.passes import QuantizeOptions
from tests import nets
from tests.edgekit.formats.quantised import context, quantised


def _placed(model: Model, convention: str) -> tuple[Program, Placement]:
    assert model.table is not None
    program = trace(model)
    return program, place(program, model.table, CONVENTIONS[convention])


def _names(program: Program, nodes: object) -> set[str]:
    return {program.names[node] for node in nodes}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["onnxruntime-x86-vnni", "onnxruntime-x86", "onnxruntime-arm", "litert"])
def test_every_edge_between_kernels_is_quantised_once(name: str) -> None:
    program, placement = _placed(quantised(nets.TINY_RESIDUAL), name)
    # not stem/conv2d, conv1/conv2d and /add: their ReLU is computed in the same kernel
    assert _names(program, placement.grids) == {
        "input:image",
        "/relu",
        "/relu_1",
        "conv2/conv2d",
        "/relu_2",
        "/adaptive_avg_pool2d",
        "/flatten",
        "linear/linear",
    }
    assert placement.in_float == ()


def test_tensorrt_quantises_inputs_of_kernels_and_the_skip_edge_only() -> None:
    program, placement = _placed(quantised(nets.TINY_RESIDUAL), "tensorrt")
    add = program.node("/add")
    assert "conv2/conv2d" not in _names(program, placement.grids)  # the main branch fuses into the addition
    assert add in placement.users[program.node("/relu")]  # the skip edge
    assert "linear/linear" not in _names(program, placement.grids)  # nothing reads integers after it


def test_tensorrt_is_symmetric_and_others_are_not() -> None:
    model = quantised(nets.TINY_RESIDUAL)
    _, symmetric = _placed(model, "tensorrt")
    assert {grid.zero_point for grid in symmetric.grids.values()} == {0}
    _, affine = _placed(model, "litert")
    assert -128 in {grid.zero_point for grid in affine.grids.values()}  # behind a ReLU


def test_unsigned_and_signed_conventions_share_their_grids() -> None:
    model = quantised(nets.TINY_CONV)
    (_, unsigned), (_, signed) = _placed(model, "onnxruntime-x86-vnni"), _placed(model, "onnxruntime-arm")
    for u, s in zip(unsigned.grids.values(), signed.grids.values(), strict=True):
        assert (u.scale, u.zero_point - 128) == (s.scale, s.zero_point)


def test_data_movement_keeps_the_grid_and_says_what_it_is_tied_to() -> None:
    program, placement = _placed(quantised(nets.TINY_RESIDUAL), "onnxruntime-arm")
    pool, flat = program.node("/adaptive_avg_pool2d"), program.node("/flatten")
    assert placement.grids[flat].scale == placement.grids[pool].scale
    assert placement.grids[flat].tied_to == "/adaptive_avg_pool2d"
    assert placement.grids[pool].tied_to is None


def test_an_operator_that_no_convention_knows_is_named() -> None:
    class Sine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x).sin()

    model = replace(nets.model(nets.TINY_CONV), network=Sine().eval())
    edges = {name: EdgeRange(-1.0, 1.0, 2 / 255, 0) for name in trace(model).names.values()}
    _, placement = _placed(replace(model, table=QuantisationTable(edges, {})), "litert")
    assert [row.node for row in placement.in_float] == ["/sin"]


def test_in_litert_a_mean_has_a_grid_of_its_own_and_a_pool_with_a_window_has_not() -> None:
    class Pools(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(2, 4, 3), nn.AvgPool2d(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.pool(self.conv(x)).mean((2, 3))

    model = replace(nets.model(nets.TINY_CONV), network=Pools().eval())
    program, placement = _placed(quantize(model, QuantizeOptions(), context(model)), "litert")
    pool, mean = program.node("pool/avg_pool2d"), program.node("/adaptive_avg_pool2d")
    assert placement.grids[pool].tied_to == "conv/conv2d"
    assert placement.grids[mean].tied_to is None
    assert placement.grids[mean].scale < placement.grids[pool].scale


def test_concatenated_tensors_share_one_grid_that_covers_them_all() -> None:
    class Concat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.left(x), self.right(x)], 1)

    model = replace(nets.model(nets.TINY_CONV), network=Concat().eval())
    ranges = {"left/conv2d": (-1.0, 1.0), "right/conv2d": (0.0, 4.0)}
    edges = {n: EdgeRange(*ranges.get(n, (-1.0, 4.0)), 0.1, 0) for n in trace(model).names.values()}
    program, placement = _placed(replace(model, table=QuantisationTable(edges, {})), "litert")
    grids = {program.names[n]: grid for n, grid in placement.grids.items() if n.op == "call_function"}
    assert len({(grid.scale, grid.zero_point) for grid in grids.values()}) == 1
    assert grids["/cat"].scale == pytest.approx(5 / 255, rel=1e-6)


@pytest.mark.parametrize("picks", [True, False])
def test_a_convolution_that_only_picks_channels_keeps_the_grid(picks: bool) -> None:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pick = nn.Conv2d(2, 3, 1, 2, bias=False)
            weight = torch.tensor([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
            self.pick.weight.data = (weight if picks else weight * 0.5)[:, :, None, None]
            self.conv = nn.Conv2d(2, 3, 3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.pick(x) + self.conv(x)

    model = replace(nets.model(nets.TINY_CONV), network=Shortcut().eval())
    model = quantize(model, QuantizeOptions(), context(model))
    program, placement = _placed(model, "onnxruntime-arm")
    picked, given = (placement.grids[program.node(name)] for name in ("pick/conv2d", "input:image"))
    assert (picked.scale == given.scale) is picks
    assert (picked.tied_to == "input:image") is picks


def test_a_table_of_another_network_is_refused() -> None:
    model = quantised(nets.TINY_RESIDUAL)
    assert model.table is not None
    other = nets.model(nets.TINY_REPVGG)
    with pytest.raises(FormatError) as caught:
        _placed(replace(other, table=model.table), "litert")
    assert "no edge" in caught.value.what


def test_an_unknown_convention_is_named_with_those_there_are() -> None:
    with pytest.raises(FormatError) as caught:
        find_convention("onnxruntime-mips")
    assert "litert" in caught.value.fix


def test_an_activation_with_two_readers_is_not_swallowed_by_its_convolution() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return y.relu() + y

    model = replace(nets.model(nets.TINY_CONV), network=Shared().eval())
    edges = {name: EdgeRange(-1.0, 1.0, 2 / 255, 0) for name in trace(model).names.values()}
    program, placement = _placed(replace(model, table=QuantisationTable(edges, {})), "litert")
    nodes: list[fx.Node] = list(placement.grids)
    assert {"conv/conv2d", "/relu", "/add"} <= _names(program, nodes)


@pytest.mark.parametrize("name", sorted(CONVENTIONS))
def test_a_layer_kept_in_float_has_neither_grid_nor_activation_in_integers(name: str) -> None:
    model = quantised(nets.TINY_RESIDUAL)
    assert model.table is not None
    table = replace(model.table, kept={"conv1/conv2d": Kept("float", "it loses too much")})
    program, placement = _placed(replace(model, table=table), name)
    assert [(row.node, row.reason) for row in placement.in_float] == [
        ("conv1/conv2d", "kept in float: it loses too much")
    ]
    conv = program.node("conv1/conv2d")
    assert conv not in placement.grids
    assert conv not in placement.integer
    assert program.node("/relu_1") not in placement.integer  # computed by the same kernel
    assert program.node("conv2/conv2d") in placement.users[program.node("/relu_1")]
    assert program.node("conv2/conv2d") in placement.integer


def test_a_layer_kept_in_a_wider_format_is_as_integer_as_the_others() -> None:
    model = quantised(nets.TINY_RESIDUAL)
    assert model.table is not None
    table = replace(model.table, kept={"conv1/conv2d": Kept("int8", "the rest is int4")})
    _, placement = _placed(replace(model, table=table), "litert")
    assert placement.in_float == ()
