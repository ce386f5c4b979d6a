"""A layer as a product of matrices, against PyTorch's own layers."""

import pytest
import torch
from torch import Tensor, fx, nn

from edgekit.nets.load import find_outputs
from edgekit.nets.model import Model
from edgekit.nets.program import Program, trace
from edgekit.passes.quantize.rows import LARGEST_BYTES, groups_of, in_slices, means_as_rows, outputs_as_rows, rows_of
from edgekit.passes.quantize.simulate import weighted
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec

LAYERS = {
    "conv": (nn.Conv2d(4, 6, 3, 2, 1), (3, 4, 7, 8)),
    "oblong": (nn.Conv2d(4, 6, (3, 1), (1, 2), (0, 2), (2, 1)), (3, 4, 7, 8)),
    "groups": (nn.Conv2d(4, 6, 3, 1, 0, groups=2), (3, 4, 7, 8)),
    "depthwise": (nn.Conv2d(4, 4, 3, 1, 1, groups=4), (3, 4, 7, 8)),
    "along one axis": (nn.Conv1d(4, 6, 3, 2, 1), (3, 4, 9)),
    "linear": (nn.Linear(4, 6), (3, 4)),
    "tokens": (nn.Linear(4, 6), (3, 5, 4)),
}


def _program(layer: nn.Module, shape: tuple[int, ...]) -> tuple[Program, fx.Node]:
    network = nn.Sequential(layer).eval()
    source = ModelSource(factory="tests:layer", inputs=(InputSpec(name="x", shape=(1, *shape[1:])),))
    program = trace(Model(network, source, find_outputs(network, source)), shape[0])
    (node,) = weighted(program).values()
    return program, node


@pytest.mark.parametrize("name", LAYERS)
def test_weight_times_rows_is_the_layer_without_its_bias(name: str) -> None:
    layer, shape = LAYERS[name]
    program, node = _program(layer, shape)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weight: Tensor = layer.weight  # type: ignore[assignment]
    rows = rows_of(node, weight.shape, values)
    made = program.module(values)
    wanted = outputs_as_rows(node, made[0] if isinstance(made, tuple) else made)
    bias: Tensor = layer.bias  # type: ignore[assignment]
    groups = groups_of(node)
    product = weight.reshape(groups, -1, rows.shape[1]) @ rows + bias.reshape(groups, -1, 1)
    torch.testing.assert_close(product, wanted)


@pytest.mark.parametrize("name", LAYERS)
def test_a_mean_stands_at_every_row_of_its_channel(name: str) -> None:
    layer, shape = LAYERS[name]
    _, node = _program(layer, shape)
    weight: Tensor = layer.weight  # type: ignore[assignment]
    mean = torch.arange(1.0, 5.0)
    values = mean.reshape(1, 4, *[1] * (len(shape) - 2)).expand(shape) if "onv" in repr(layer) else mean.expand(shape)
    rows = rows_of(node, weight.shape, values)
    inner = rows.max(2, keepdim=True).values  # padded places are 0
    torch.testing.assert_close(means_as_rows(mean, *rows.shape[:2]), inner)


def test_slices_hold_all_samples_once_and_few_bytes() -> None:
    layer, shape = LAYERS["conv"]
    _, node = _program(layer, shape)
    values = torch.arange(40.0).reshape(40, 1, 1, 1).expand(40, 4, 300, 300)
    parts = list(in_slices(node, layer.weight.shape, values, torch.arange(40)))  # type: ignore[union-attr, arg-type]
    assert len(parts) > 1
    assert torch.cat([labels for _, labels in parts]).tolist() == list(range(40))
    assert all((part[:, 0, 0, 0] == labels).all() for part, labels in parts)
    assert all(part.numel() * 9 * 4 <= LARGEST_BYTES for part, _ in parts)
