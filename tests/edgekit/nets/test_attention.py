"""Composite operators opened, scales folded: the same function in operators that placement knows."""

import torch
from torch import nn
from torch.nn import functional as F

from edgekit.nets.graph import aten, tensor_of
from edgekit.nets.model import Model
from edgekit.nets.program import Program, trace
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec, OutputSpec


def _trace(network: nn.Module, *shape: int, batch: int = 2) -> Program:
    """The program, which `trace` has compared with the network."""
    source = ModelSource(factory="tests:gates", inputs=(InputSpec(name="x", shape=(1, *shape)),))
    return trace(Model(network.eval(), source, (OutputSpec(name="output", shape=(1, 1)),)), batch)


def _targets(program: Program) -> list[object]:
    return [node.target for node in program.module.graph.nodes if node.op == "call_function"]


def test_attention_is_two_products_around_a_softmax_and_its_scale_is_in_the_query_layer() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.q, self.k = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(self.q(x), self.k(x), x, scale=0.3)

    network = Attention()
    program = _trace(network, 4, 8)
    computing = [t for t in _targets(program) if t not in (aten.reshape.default, aten.permute.default)]
    assert sorted(map(str, computing)) == sorted(
        map(str, [*[aten.linear.default] * 2, *[aten.matmul.default] * 2, aten.softmax.int])
    )
    query = next(n for n in program.names if n.target is aten.linear.default)
    weight = tensor_of(program.module, query.args[1])  # type: ignore[arg-type]
    torch.testing.assert_close(weight, network.q.weight.detach() * 0.3)


def test_masked_attention_stays_whole() -> None:
    class Causal(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(x, x, x, is_causal=True)

    assert _targets(_trace(Causal(), 4, 8)) == [aten.scaled_dot_product_attention.default]


def test_silu_is_a_product_with_its_own_gate() -> None:
    assert _targets(_trace(nn.SiLU(), 3)) == [aten.sigmoid.default, aten.mul.Tensor]


def test_a_product_with_a_stored_matrix_is_a_linear_layer() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.matrix = nn.Parameter(torch.randn(8, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.matrix

    assert aten.linear.default in _targets(_trace(Product(), 4, 8))


def test_a_scale_behind_a_layer_is_folded_and_one_behind_a_shared_layer_is_not() -> None:
    class Scaled(nn.Module):
        def __init__(self, shared: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.shared = nn.Conv2d(2, 3, 1), shared

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return y.flatten(1) / 4 + (y.flatten(1) if self.shared else 1.0)

    assert aten.mul.Tensor not in _targets(_trace(Scaled(False), 2, 4, 4))
    assert aten.mul.Tensor in _targets(_trace(Scaled(True), 2, 4, 4))


def test_numbers_in_sums_are_stored() -> None:
    class Rest(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1 - x.sigmoid() * 3

    program = _trace(Rest(), 4)
    numbers = [float(t) for _, t in program.module.named_buffers()]
    assert sorted(numbers) == [1.0, 3.0]
    assert _targets(program) == [aten.sigmoid.default, aten.mul.Tensor, aten.sub.Tensor]
