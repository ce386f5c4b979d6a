"""Which operators run in integers, and what goes with their neighbours: transformers and gates by convention."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgekit.formats.conventions.convention import CONVENTIONS, Convention
from edgekit.formats.conventions.lowering import lower
from edgekit.formats.conventions.placement import Placement, place
from edgekit.formats.conventions.witness import Witness
from edgekit.nets.model import Model
from edgekit.nets.movement import origin
from edgekit.nets.operators import kind_of
from edgekit.nets.program import Program, trace
from tests.edgekit.formats.transformers import model_of, quantised_model, tiny_vit

ORT, LITERT, TENSORRT = (CONVENTIONS[name] for name in ("onnxruntime-x86-vnni", "litert", "tensorrt"))


def _placed(model: Model, convention: Convention) -> tuple[Program, Placement]:
    assert model.table is not None
    program = trace(model)
    return program, place(program, model.table, convention)


def _kinds(placement: Placement) -> set[str | None]:
    return {kind_of(node) for node in placement.integer} - {"move"}


@pytest.mark.parametrize("convention", [ORT, LITERT, TENSORRT], ids=lambda c: c.name)
@pytest.mark.parametrize("pre_norm", [False, True])
def test_linear_layers_of_a_transformer_are_integer_and_its_norms_are_not(
    convention: Convention, pre_norm: bool
) -> None:
    program, placement = _placed(quantised_model(tiny_vit(pre_norm)), convention)
    assert {"conv", "linear"} <= _kinds(placement)
    floats = {row.op for row in placement.in_float}
    assert {"aten.layer_norm.default", "aten.softmax.int"} <= floats
    assert all(row.reason for row in placement.in_float)
    linear = [node for node in program.names if kind_of(node) == "linear"]
    assert set(linear) <= set(placement.integer)
    assert all(node not in placement.integer for node in program.names if kind_of(node) == "layer_norm")


def test_what_stands_between_floats_stays_there_and_hands_floats_on() -> None:
    program, placement = _placed(quantised_model(tiny_vit(pre_norm=True)), ORT)
    residual = program.node("transformer.layers.1/add_1")
    assert residual not in placement.integer
    assert next(r.reason for r in placement.in_float if r.node == "transformer.layers.1/add_1").startswith("it stands")
    assert residual not in placement.grids
    # QGemm gives floats to the sum; LiteRT's kernel cannot, so there its output has a grid
    down = "transformer.layers.1.linear2/linear"
    assert program.node(down) not in placement.grids
    program, placement = _placed(quantised_model(tiny_vit(pre_norm=True)), LITERT)
    assert program.node(down) in placement.grids


def test_the_sum_of_embedding_and_positions_is_integer_with_positions_stored_as_codes() -> None:
    program, placement = _placed(quantised_model(tiny_vit()), ORT)
    constants = {str(node.target): grid for node, grid in placement.grids.items() if node.op == "get_attr"}
    assert set(constants) == {"pos_embed", "cls_token"}
    concat = program.node("/cat")
    assert constants["cls_token"].scale == placement.grids[concat].scale  # joined
    assert constants["pos_embed"].tied_to is None


def test_tensorrt_quantises_both_sides_of_a_product() -> None:
    program, placement = _placed(quantised_model(tiny_vit()), TENSORRT)
    products = [node for node in program.names if kind_of(node) == "matmul"]
    assert len(products) == 4
    for node in products:
        assert all(node in placement.users[source] for source in node.all_input_nodes)


def test_products_of_activations_are_integer_where_they_are_large_enough() -> None:
    model = quantised_model(tiny_vit())
    _, small = _placed(model, ORT)
    reasons = {row.reason for row in small.in_float if row.op == "aten.matmul.default"}
    assert reasons == {"integers do not pay for a product of 200 multiply-accumulates"}  # 5 x 8 x 5, 5 x 5 x 8
    program, large = _placed(model, replace(ORT, least_macs={"matmul": 200}))
    assert "matmul" in _kinds(large)
    scores = program.node("transformer.layers.0.self_attn/matmul")
    assert scores not in large.grids  # its only reader, the softmax, is in float, and the kernel can give that


class _Gates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.out = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.a(x).sigmoid() * self.b(x).tanh())


def test_gates_have_the_fixed_grids_of_litert() -> None:
    _, placement = _placed(quantised_model(model_of(_Gates(), (1, 6), "NC")), LITERT)
    assert placement.in_float == ()
    grids = {kind_of(node): (grid.scale, grid.zero_point) for node, grid in placement.grids.items()}
    assert grids["sigmoid"] == (1 / 256, -128)
    assert grids["tanh"] == (1 / 128, 0)
    _, wide = _placed(quantised_model(model_of(_Gates(), (1, 6), "NC"), activations="int16"), LITERT)
    assert {(g.scale, g.zero_point) for n, g in wide.grids.items() if kind_of(n) in ("sigmoid", "tanh")} == {
        (1 / 32768, 0)
    }


def test_a_softmax_at_the_end_has_the_fixed_grid_of_litert_in_unsigned_codes_too() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.linear = nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x).softmax(-1)

    model = quantised_model(model_of(Head(), (1, 6), "NC"))
    for signed, zero_point in ((True, -128), (False, 0)):
        program, placement = _placed(model, replace(LITERT, signed=signed))
        grid = placement.grids[program.node("/softmax")]
        assert (grid.scale, grid.zero_point) == (1 / 256, zero_point)


def test_a_concatenation_that_would_tear_a_fixed_grid_is_done_in_float() -> None:
    class Joined(nn.Module):
        def __init__(self, alike: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.out, self.alike = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(8, 3), alike

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            right = self.b(x)
            return self.out(torch.cat([self.a(x).tanh(), right.tanh() if self.alike else right], -1))

    torn = quantised_model(model_of(Joined(False), (1, 6), "NC"))
    program, placement = _placed(torn, LITERT)
    assert [(row.node, "fixed grid" in row.reason) for row in placement.in_float] == [("/cat", True)]
    assert placement.grids[program.node("/tanh")].scale == 1 / 128
    assert placement.grids[program.node("b/linear")].scale != 1 / 128
    assert placement.grids[program.node("/cat")].tied_to is None
    program, placement = _placed(quantised_model(model_of(Joined(True), (1, 6), "NC")), LITERT)
    assert placement.in_float == ()
    assert placement.grids[program.node("/cat")].scale == 1 / 128


def test_an_input_that_a_kernel_takes_as_codes_is_given_as_codes_to_all_in_litert() -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.linear = nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x) + F.layer_norm(x, (6,))

    model = quantised_model(model_of(Beside(), (1, 6), "NC"))
    for convention, count in ((LITERT, 2), (ORT, 1)):
        program, placement = _placed(model, convention)
        assert len(placement.users[program.node("input:image")]) == count


@pytest.mark.parametrize("name", sorted(CONVENTIONS))
@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_lowered_transformer_stays_close_to_the_float_network(name: str, pre_norm: bool) -> None:
    model = quantised_model(tiny_vit(pre_norm))
    (x,) = model.example(4, seed=3)
    real = model.network(x).detach()
    (given,) = Witness(lower(model, CONVENTIONS[name], 4).module)(x)
    assert 0 < (given - real).abs().max() < 0.12 * real.abs().max()


@pytest.mark.parametrize("convention", [ORT, LITERT], ids=lambda c: c.name)
def test_what_an_integer_kernel_wrote_is_moved_as_integers_for_readers_in_float_too(convention: Convention) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.pool, self.second = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pooled = self.pool(self.first(x))
            return self.second(pooled) + pooled.erf()

    program, placement = _placed(quantised_model(model_of(Pooled(), (1, 3, 6, 6))), convention)
    pool = program.node("pool/max_pool2d")
    assert {kind_of(user) for user in placement.users[pool]} == {"conv", None}  # erf reads codes as well
    assert placement.grids[pool].scale == placement.grids[program.node("first/conv2d")].scale


def test_a_layer_finds_its_input_through_movement_that_differs_between_batches() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = self.first(x).flatten(2).transpose(1, 2)
            return self.second(tokens) + F.layer_norm(tokens, (4,))

    program, placement = _placed(quantised_model(model_of(Turned(), (1, 3, 5, 5))), ORT)
    written = program.node("first/conv2d")
    read = program.node("second/linear").all_input_nodes[0]
    assert read is not written
    assert program.edge_name(read) == "first/conv2d"
    assert placement.grids[read].scale == placement.grids[written].scale


def test_a_gelu_is_integer_in_litert_and_between_float_ends_of_two_layers_elsewhere() -> None:
    model = quantised_model(tiny_vit(pre_norm=True))
    up = "transformer.layers.0.linear1/linear"
    program, placement = _placed(model, LITERT)
    (gelu,) = program.node(up).users
    assert kind_of(gelu) == "gelu"
    assert gelu in placement.integer
    assert model.table is not None
    assert placement.grids[gelu].scale == model.table.edges[program.names[gelu]].scale  # its own, not the layer's
    assert placement.grids[gelu].scale != placement.grids[program.node(up)].scale
    program, placement = _placed(model, ORT)
    (gelu,) = program.node(up).users
    assert program.node(up) not in placement.grids  # QGemm gives it floats
    assert [kind_of(user) for user in placement.users[gelu]] == ["linear"]
    assert program.names[gelu] in {row.node for row in placement.in_float}


def test_heads_are_taken_apart_on_integers_with_the_grid_of_their_layer_where_products_are_integer() -> None:
    model = quantised_model(tiny_vit())
    program, placement = _placed(model, replace(ORT, least_macs={}))
    scores = program.node("transformer.layers.0.self_attn/matmul")
    for read in scores.all_input_nodes:
        layer = origin(read)
        assert kind_of(layer) == "linear"
        assert placement.grids[read].scale == placement.grids[layer].scale
        assert placement.grids[read].tied_to == program.names[layer]
    # in float they are moved as floats: the layer hands floats on, and nothing in between has a grid
    program, placement = _placed(model, ORT)
    scores = program.node("transformer.layers.0.self_attn/matmul")
    for read in scores.all_input_nodes:
        assert read not in placement.grids
        assert origin(read) not in placement.grids


def test_a_softmax_between_products_is_integer_in_litert_only_where_the_products_are() -> None:
    model = quantised_model(tiny_vit())
    program, placement = _placed(model, LITERT)
    assert {row.reason for row in placement.in_float if row.op == "aten.softmax.int"} == {
        "it stands between operators in float"
    }
    program, placement = _placed(model, replace(LITERT, integer=LITERT.integer | {"matmul"}))
    softmax = [node for node in program.names if kind_of(node) == "softmax"]
    assert len(softmax) == 2
    for node in softmax:
        assert (placement.grids[node].scale, placement.grids[node].zero_point) == (1 / 256, -128)


@pytest.mark.parametrize("convention", [ORT, LITERT], ids=lambda c: c.name)
def test_a_residual_stream_that_every_layer_normalises_first_is_in_float(convention: Convention) -> None:
    program, placement = _placed(quantised_model(tiny_vit(pre_norm=True)), convention)
    reasons = {row.node: row.reason for row in placement.in_float}
    assert reasons["/add"].startswith("only floats are made of it")
    assert ("/cat" in reasons) == (convention is ORT)  # LiteRT's converter does it on codes wherever it can
    sums = [program.names[node] for node in program.names if kind_of(node) == "add"]
    assert len(sums) == 5
    assert {*sums} <= reasons.keys()
    stored = {str(node.target) for node in placement.grids if node.op == "get_attr"}
    assert stored == (set() if convention is ORT else {"cls_token"})
    assert program.node("patch_embed.proj/conv2d") in placement.grids  # its kernel gives codes


def test_a_sum_of_two_integers_that_only_floats_read_is_integer() -> None:
    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.shift = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Parameter(torch.randn(4, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.a(x) + self.b(x)).erf() + (self.a(x) + self.shift).erf()

    program, placement = _placed(quantised_model(model_of(Summed(), (1, 3, 4, 4))), ORT)
    both, stored, last = (node for node in program.names if kind_of(node) == "add")
    assert both in placement.integer  # one conversion behind it, where two would stand before it
    assert stored not in placement.integer
    assert last in placement.integer  # the output is wanted in codes
