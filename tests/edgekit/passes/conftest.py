"""Surroundings for passes: a tiny target, samples made from a seed, and a context around them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekit.data.metrics import METRICS
from edgekit.data.samples import Samples, Splits
from edgekit.data.score import Score
from edgekit.formats.conventions.convention import CONVENTIONS
from edgekit.formats.conventions.lowering import lower
from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.schema.recipe import ModelSource
from edgekit.schema.target import Fact, Target, TargetFormat
from edgekit.schema.tensors import InputSpec, OutputSpec

ContextMaker = Callable[..., Context]
ModelMaker = Callable[..., Model]


def _target(channel_multiple: int) -> Target:
    def fact(value: float, unit: str) -> Fact:
        return Fact(value=value, unit=unit, source="made up for tests")

    return Target(
        name="bench",
        description="a board for tests",
        architecture="aarch64",
        formats=(TargetFormat(format="onnx", convention="onnxruntime-arm", runtime="onnxruntime"),),
        precisions=("fp32", "int8"),
        int8_dot=True,
        channel_multiple=fact(channel_multiple, "channels"),
        cores=fact(4, "cores"),
    )


def stripes(count: int, shape: tuple[int, ...] = (1, 8, 8), classes: int = 4, seed: int = 0) -> Samples:
    """Noise with one bright row a class: what a small network learns in a few steps."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=draw)
    inputs = torch.randn((count, *shape), generator=draw) * 0.5
    inputs[torch.arange(count), :, labels * (shape[1] // classes)] += 2
    return Samples((inputs,), labels)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small wait for a second thread longer than it works."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_context(tmp_path: Path) -> ContextMaker:
    """`make_context(train=..., teachers=..., seed=..., channel_multiple=..., progress=..., folder=...)`."""

    def make(**given: Any) -> Context:
        def no_teacher() -> tuple[Model, ...]:
            raise AssertionError("nobody should ask for the teacher")

        calibration = given.get("calibration", stripes(48, seed=2))
        return Context(
            target=_target(given.get("channel_multiple", 4)),
            splits=Splits(given.get("train"), calibration, None, digest="stripes"),
            score=Score(METRICS["top1"]),
            teachers=given.get("teachers", no_teacher),
            measure=lambda model: None,
            lower=lambda model, batch: lower(model, CONVENTIONS["onnxruntime-x86-vnni"], batch).module,
            seed=given.get("seed", 0),
            progress=given.get("progress", lambda done, total, note="": None),
            folder=given.get("folder", tmp_path / "step"),
        )

    return make


@pytest.fixture
def make_model() -> ModelMaker:
    """`make_model(network, shape)`: a Model around a network of one input and one output."""

    def make(network: nn.Module, shape: tuple[int, ...] = (1, 1, 8, 8)) -> Model:
        network.eval()
        with torch.no_grad():
            outputs = network(torch.zeros(shape))
        source = ModelSource(factory="tests:network", inputs=(InputSpec(name="input", shape=shape),))
        return Model(network, source, (OutputSpec(name="output", shape=tuple(outputs.shape)),))

    return make


@pytest.fixture
def samples() -> Callable[..., Samples]:
    """`stripes`, as a fixture."""
    return stripes


@pytest.fixture
def train_norms() -> Callable[[nn.Module, int], nn.Module]:
    """Give every batch norm of a network statistics and affine parameters away from their defaults."""

    def train(network: nn.Module, seed: int = 0) -> nn.Module:
        draw = torch.Generator().manual_seed(seed)

        def randn(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=draw)

        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.track_running_stats:
                module.running_mean.copy_(0.3 * randn(module.running_mean))
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=draw) * 1.5 + 0.5)
                with torch.no_grad():
                    module.weight.copy_(1 + 0.3 * randn(module.weight))
                    module.bias.copy_(0.3 * randn(module.bias))
        return network.eval()

    return train
