"""Artifacts of tiny networks, exported once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekit.debug.compare import DebugSamples
from edgekit.debug.network import NetworkSide
from edgekit.nets.load import find_outputs
from edgekit.nets.model import Model
from edgekit.passes.quantize.quantize import quantize
from edgekit.pipeline.build import build
from edgekit.pipeline.request import BuildRequest
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import Export, ModelSource
from edgekit.schema.tensors import InputSpec
from tests.edgekit.formats.quantised import context

BATCH = 8
Exporter = Callable[[Model, str], Path]


class Colours(nn.Module):
    """Three input channels of different weight, a convolution behind another, a shortcut, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 1, 1)
        self.body = nn.Conv2d(6, 6, 3, 1, 1)
        self.linear = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        return self.linear(torch.relu(x + self.body(x)).mean((2, 3)))


def colours() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = Colours()
    with torch.no_grad():
        network.stem.bias += 0.5
        network.body.bias += 0.5
        network.linear.bias += 0.5
    return network.eval()


@pytest.fixture(scope="session")
def colour_model() -> Model:
    """Quantised."""
    source = ModelSource(factory="tests.nets:unused", inputs=(InputSpec(name="image", shape=(1, 3, 8, 8)),))
    network = colours()
    plain = Model(network, source, find_outputs(network, source))
    return quantize(plain, QuantizeOptions(), context(plain))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    """Exports a model under a convention, `float-onnx` or `float-tflite`, in batches of 8."""

    def export(model: Model, convention: str) -> Path:
        folder = tmp_path_factory.mktemp(convention)
        plain = replace(model, table=None) if convention.startswith("float") else model
        if convention in ("litert", "float-tflite"):
            from edgekit.formats.tflite.export import export_tflite

            return export_tflite(plain, "litert", folder, "model", Export(batch=BATCH)).path
        from edgekit.formats.onnx.export import export_onnx

        name = "onnxruntime-x86-vnni" if convention == "float-onnx" else convention
        return export_onnx(plain, name, folder, "model", Export(batch=BATCH)).path

    return export


@pytest.fixture(scope="session")
def colour_onnx(exported: Exporter, colour_model: Model) -> Path:
    return exported(colour_model, "onnxruntime-x86-vnni")


@pytest.fixture(scope="session")
def colour_tflite(exported: Exporter, colour_model: Model) -> Path:
    return exported(colour_model, "litert")


@pytest.fixture
def colour_network(colour_model: Model) -> NetworkSide:
    return NetworkSide(colour_model, "float network", BATCH)


@pytest.fixture
def colour_samples(colour_model: Model) -> DebugSamples:
    """What the network was calibrated with, but the last two, so that a batch is not full."""
    return DebugSamples({"image": colour_model.example(40, seed=3)[0].numpy()[:38]}, "calibration samples")


MODULE = """
import numpy as np
import torch
from torch import nn


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))


def samples():
    generator = np.random.default_rng(7)
    parts = {}
    for name, count in (("calibration", 24), ("test", 20)):
        inputs = generator.normal(size=(count, 1, 4, 4)).astype(np.float32)
        parts[name] = (inputs, (inputs.mean((1, 2, 3)) > 0).astype(np.int64))
    return parts
"""

RECIPE = """
name: own
model:
  factory: own_debug:network
  inputs: [{name: image, shape: [1, 1, 4, 4]}]
data: own_debug:samples
steps: [quantize]
"""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a recipe, its store, and its bundle for a board that has TFLite and ONNX."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "own_debug.py").write_text(MODULE)
    (folder / "own.yaml").write_text(RECIPE)
    with contextlib.chdir(folder):
        build(BuildRequest("own.yaml", "raspberry-pi-5", measure=False, home=folder / ".edgekit"))
    return folder


@pytest.fixture
def workplace(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That directory, as the one that is worked in."""
    monkeypatch.chdir(built)
    monkeypatch.delenv("EDGEKIT_HOME", raising=False)
    return built
