"""Movement between operators that compute: as little as the function allows, however the network spells it."""

from collections import Counter

import pytest
import torch
from torch import fx, nn

from edgekit.nets.graph import aten
from edgekit.nets.model import Model
from edgekit.nets.movement import MOVES, origin
from edgekit.nets.program import Program, trace
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec, OutputSpec

TOKENS, WIDTH, HEADS = 5, 12, 3


def _model(network: nn.Module) -> Model:
    source = ModelSource(factory="tests:attention", inputs=(InputSpec(name="tokens", shape=(1, TOKENS, WIDTH)),))
    return Model(network.eval(), source, (OutputSpec(name="output", shape=(1, TOKENS, WIDTH)),))


def _counts(program: Program) -> Counter[str]:
    return Counter(str(n.target).split(".")[1] for n in program.module.graph.nodes if n.op == "call_function")


class Packed(nn.Module):
    """Queries, keys and values from one layer, taken apart in one of several spellings."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.spelling = spelling
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, c = x.shape
        packed = self.qkv(x)
        if self.spelling == "unbind":
            q, k, v = packed.reshape(n, t, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        elif self.spelling == "chunk":
            q, k, v = (part.view(n, t, HEADS, c // HEADS).transpose(1, 2) for part in packed.chunk(3, -1))
        elif self.spelling == "split":
            q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in packed.split([c, c, c], dim=-1))
        else:
            q, k, v = (packed[..., i * c : (i + 1) * c].view(n, t, HEADS, -1).transpose(1, 2) for i in range(3))
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(n, t, c))


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("spelling", ["unbind", "chunk", "split", "slice"])
def test_packed_projections_become_three_layers_without_a_slice(spelling: str, batch: int) -> None:
    model = _model(Packed(spelling))
    program = trace(model, batch)
    counts = _counts(program)
    assert counts["linear"] == 4
    assert not {"slice", "select", "mul", "scaled_dot_product_attention"} & counts.keys()
    assert counts["permute"] == 4  # one each for query, key, value and result
    inputs = model.example(batch, seed=1)
    torch.testing.assert_close(program.module(*inputs), model.network(*inputs), rtol=1e-5, atol=1e-6)


def test_a_layer_that_is_also_read_whole_is_not_split() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.layer(x)
            left, right = y.chunk(2, -1)
            return torch.cat([left.tanh(), right.sigmoid()], -1) + y

    model = _model(Both())
    assert _counts(trace(model))["linear"] == 1


def test_a_multi_head_attention_module_needs_one_permutation_a_head_tensor() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
            nn.init.normal_(self.attention.in_proj_bias)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x, x, x, need_weights=False)[0]

    model = _model(Attention())
    counts = _counts(trace(model))
    assert (counts["linear"], counts["permute"], counts["matmul"]) == (4, 4, 2)


def test_rows_stay_a_matrix_through_what_works_on_rows() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.up, self.down = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 20), nn.Linear(20, WIDTH)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(3):
                x = x + self.down(nn.functional.gelu(self.up(self.norm(x))))
            return x

    counts = _counts(trace(_model(Block())))
    # into the first layer, into the first sum, and back at the end
    assert (counts["linear"], counts["reshape"]) == (6, 3)


def test_what_is_made_here_is_named_after_what_it_moves_at_every_batch() -> None:
    model = _model(Packed("unbind"))
    one, four = trace(model, 1), trace(model, 4)

    def computing(program: Program) -> list[str]:
        return [name for node, name in program.names.items() if node.target not in MOVES]

    assert computing(one) == computing(four)
    for program in (one, four):
        for node, name in program.names.items():
            if node.target in MOVES:
                assert name.startswith(f"{program.names[origin(node)]}/")


def test_a_single_movement_keeps_its_spelling() -> None:
    class Flat(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.tanh().flatten(1).relu()

    targets = [n.target for n in trace(_model(Flat())).module.graph.nodes if isinstance(n, fx.Node)]
    assert aten.flatten.using_ints in targets


def test_movement_that_leaves_elements_out_keeps_its_function() -> None:
    class Picked(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.tanh()[:, 1:3].transpose(1, 2)[:, ::2].flatten(1).relu()

    model = _model(Picked())
    (x,) = model.example(2, seed=3)
    torch.testing.assert_close(trace(model, 2).module(x), model.network(x))


def test_products_of_matrices_are_along_one_axis_and_their_softmax_with_them() -> None:
    class Heads(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            heads = x.tanh().view(x.shape[0], TOKENS, HEADS, -1).transpose(1, 2)  # (N, heads, tokens, width of a head)
            chances = (heads @ heads.transpose(-2, -1)).softmax(3)
            return (chances @ heads).transpose(1, 2).flatten(2).relu()

    model = _model(Heads())
    program = trace(model, 2)
    ranks = {
        n.target: n.meta["val"].dim() for n in program.names if n.target in (aten.matmul.default, aten.softmax.int)
    }
    assert ranks == {aten.matmul.default: 3, aten.softmax.int: 3}
    (x,) = model.example(2, seed=3)
    torch.testing.assert_close(program.module(x), model.network(x))


def test_a_sum_of_a_matrix_and_of_products_is_as_the_network_has_it() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            heads = x.view(x.shape[0], TOKENS, HEADS, -1)
            return (self.layer(heads) + heads @ heads.transpose(-2, -1) @ heads).relu()

    model = _model(Mixed())
    (x,) = model.example(2, seed=3)
    torch.testing.assert_close(trace(model, 2).module(x), model.network(x), rtol=1e-5, atol=1e-5)
