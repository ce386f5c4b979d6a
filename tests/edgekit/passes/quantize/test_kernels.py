"""Kernels and wires of small networks, counted by hand."""

import pytest
import torch
from torch import Tensor, nn

from edgekit.nets.model import Model
from edgekit.nets.program import trace
from edgekit.passes.quantize.kernels import Kernel, Wire, bits_of, dissect, work
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec, OutputSpec
from tests import nets


@pytest.mark.parametrize("counted", [nets.TINY_CONV, nets.TINY_RESIDUAL])
@pytest.mark.parametrize("batch", [1, 4])
def test_kernels_count_what_one_counts_by_hand(counted: nets.Counted, batch: int) -> None:
    anatomy = dissect(trace(nets.model(counted), batch))
    assert sum(kernel.macs for kernel in anatomy.kernels) == counted.macs


def test_a_kernel_reads_and_writes_what_its_operators_do_together() -> None:
    stem, first, *_ = dissect(trace(nets.model(nets.TINY_RESIDUAL))).kernels
    assert stem == Kernel(("stem/conv2d",), "stem.weight", 36 * 4 * 9, 4 * 9, 4, 36 + 4 * 36)
    assert first == Kernel(("conv1/conv2d",), "conv1.weight", 36 * 4 * 4 * 9, 4 * 4 * 9, 4, 2 * 4 * 36)


def test_wires_have_every_kernel_that_writes_or_reads_them() -> None:
    anatomy = dissect(trace(nets.model(nets.TINY_RESIDUAL)))
    assert [kernel.name for kernel in anatomy.kernels] == [
        "stem/conv2d",
        "conv1/conv2d",
        "conv2/conv2d",
        "/add",
        "/adaptive_avg_pool2d",
        "linear/linear",
    ]
    assert anatomy.wires == (
        Wire("input:image", frozenset({0})),
        Wire("/relu", frozenset({0, 1, 3})),  # the stem's activation; its convolution's own output is no wire
        Wire("/relu_1", frozenset({1, 2})),
        Wire("conv2/conv2d", frozenset({2, 3})),
        Wire("/relu_2", frozenset({3, 4})),
        Wire("/adaptive_avg_pool2d", frozenset({4, 5})),  # flattened on its way, and still the same wire
        Wire("linear/linear", frozenset({5})),
    )


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(torch.relu(self.conv(x))))


def test_layers_of_one_weight_are_one_kernel_and_what_lies_between_them_is_its_wire() -> None:
    source = ModelSource(factory="tests:twice", inputs=(InputSpec(name="image", shape=(1, 2, 4, 4)),))
    model = Model(_Twice().eval(), source, (OutputSpec(name="output", shape=(1, 2, 4, 4)),))
    anatomy = dissect(trace(model))
    (kernel,) = anatomy.kernels
    assert (kernel.layers, kernel.params, kernel.macs) == (("conv/conv2d", "conv/conv2d_1"), 4, 2 * 16 * 4)
    assert [wire.name for wire in anatomy.wires] == ["input:image", "/relu", "/relu_1"]


class _Scores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.keys = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return torch.softmax(x @ self.keys(x).transpose(1, 2), -1)


def test_products_of_activations_are_kernels_and_what_is_always_in_float_holds_no_wire() -> None:
    source = ModelSource(factory="tests:scores", inputs=(InputSpec(name="tokens", shape=(1, 3, 4)),))
    model = Model(_Scores().eval(), source, (OutputSpec(name="output", shape=(1, 3, 3)),))
    anatomy = dissect(trace(model, 2))
    linear, product, softmax = anatomy.kernels
    assert (linear.macs, product.macs, softmax.macs) == (3 * 4 * 4, 3 * 3 * 4, 0)
    assert product.values == 12 + 12 + 9
    ends = {wire.name: wire.ends for wire in anatomy.wires}
    assert not any(name.startswith("input:") for name in ends)  # only the norm reads it
    assert ends["norm/layer_norm"] == {0, 1}
    assert ends["keys/linear"] == {0, 1}  # transposed on its way


def test_work_is_products_of_bytes_and_bytes_moved() -> None:
    kernel = Kernel(("a",), "a.weight", macs=1000, params=200, channels=4, values=60)
    assert work(kernel, "int8", "int8") == 1000 + 60 + 200
    assert work(kernel, "int4", "int8") == 500 + 60 + 100
    assert work(kernel, "float", "float") == 16 * 1000 + 4 * 60 + 4 * 200


def test_bits_of_what_is_no_number_format() -> None:
    assert [bits_of(name) for name in ("float", "dynamic", "int4", "e2m3")] == [32, 8, 4, 6]
