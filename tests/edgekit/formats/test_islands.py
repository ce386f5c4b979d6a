"""Operators kept in float between integers: the runtimes compute them in float too, and every code is the program's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.formats.artifact import Artifact
from edgekit.formats.onnx.export import export_onnx
from edgekit.formats.tflite.export import export_tflite
from edgekit.nets.load import find_outputs
from edgekit.nets.model import Model
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import Export, ModelSource
from edgekit.schema.tensors import InputSpec
from tests.edgekit.formats.quantised import context
from tests.edgekit.formats.tflite.interpreted import run_litert

pytestmark = pytest.mark.filterwarnings("ignore")  # litert-torch and jax warn about themselves

_CONVERSIONS = {"QuantizeLinear", "DequantizeLinear"}


class Island(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.scale, self.conv = nn.Parameter(torch.rand(1, 4, 1, 1) + 0.5), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if self.kind == "softmax":
            return torch.softmax(y, 1)
        if self.kind == "cat":
            return torch.cat([x, y], 1)
        if self.kind == "add":
            return x.transpose(2, 3) + y
        z = x * self.scale + y
        z = F.relu(self.conv(torch.sigmoid(z) * z))
        z = F.avg_pool2d(torch.cat([z, x - y], 1), 2)
        return z + z.mean((2, 3), keepdim=True)


class Around(nn.Module):
    """Two layers, the island, and a layer behind it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.island = nn.Conv2d(2, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 1, 1), Island(kind)
        self.last = nn.Conv2d(8 if kind in ("cat", "all") else 4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        return self.last(self.island(x, self.b(x))).flatten(1)


class Joined(nn.Module):
    """Large boxes and small scores in one output, with nothing but layers before it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.boxes, self.scores = nn.Conv2d(2, 4, 3, 2, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 3, 1)
        with torch.no_grad():
            self.boxes.weight *= 60

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        return torch.cat([self.boxes(x), self.scores(x)], 1).flatten(2)


def quantised(network: nn.Module, *keep_float: str) -> Model:
    source = ModelSource(factory="tests:island", inputs=(InputSpec(name="image", shape=(1, 2, 8, 8)),))
    model = Model(network.eval(), source, find_outputs(network, source))
    return quantize(model, QuantizeOptions(keep_float=keep_float), context(model))


def worst_error(artifact: Artifact, model: Model) -> float:
    """Largest difference to the artifact's program, in shares of its largest output."""
    errors = []
    for x in model.example(6, seed=3)[0][:, None]:
        if artifact.path.suffix == ".tflite":
            given = run_litert(artifact, x)
        else:
            session = onnxruntime.InferenceSession(str(artifact.path), providers=["CPUExecutionProvider"])
            (given,) = session.run(None, {"image": x.numpy()})
        wanted = artifact.program(x)[0].numpy()
        errors.append(np.abs(given - wanted).max() / np.abs(wanted).max())
    return float(max(errors))


def _neighbours(graph: onnx.GraphProto, kinds: set[str]) -> set[str]:
    """Kinds of everything that nodes of `kinds` read or are read by."""
    makers = {name: node for node in graph.node for name in node.output}
    found = set()
    for node in (node for node in graph.node if node.op_type in kinds):
        found |= {makers[name].op_type for name in node.input if name in makers}
        found |= {other.op_type for other in graph.node if set(node.output) & set(other.input)}
    return found


KEPT = {
    "add": {"island/add"},
    "softmax": {"island/softmax"},
    "cat": {"island/cat"},
    "all": {
        *(f"island/{op}" for op in ("mul", "add", "sigmoid", "mul_1", "sub", "cat", "avg_pool2d")),
        *("island.conv/conv2d", "island/adaptive_avg_pool2d", "island/add_1"),
    },
}
ONNX = {
    "add": {"Add"},
    "softmax": {"Softmax"},
    "cat": {"Concat"},
    "all": {"Mul", "Add", "QuickGelu", "Conv", "Sub", "Concat", "AveragePool", "GlobalAveragePool"},
}
LITERT = {
    "add": {"ADD"},
    "softmax": {"SOFTMAX"},
    "cat": {"CONCATENATION"},
    "all": {"MUL", "ADD", "LOGISTIC", "CONV_2D", "SUB", "CONCATENATION", "AVERAGE_POOL_2D", "MEAN"},
}


@pytest.mark.parametrize("kind", KEPT)
def test_onnx_runtime_computes_it_in_float(kind: str, tmp_path: Path):
    model = quantised(Around(kind), "island")
    artifact = export_onnx(model, "onnxruntime-x86-vnni", tmp_path, "kept", Export())
    rows = artifact.row.in_float
    assert {row.node for row in rows if row.reason == "kept in float: keep_float 'island'"} == KEPT[kind]
    observed = {row.op for row in rows if row.reason.startswith("ONNX Runtime")}
    assert observed - {"Min", "Transpose"} == ONNX[kind]
    assert {op for op in artifact.row.fused if op.startswith("QLinear")} == {"QLinearConv"}
    if kind == "all":
        inside = _neighbours(onnx.load(artifact.path).graph, {"Sigmoid", "Sub", "Concat", "AveragePool"})
        assert inside & _CONVERSIONS == {"DequantizeLinear"}  # x and y, which integers write and Sub reads
    assert worst_error(artifact, model) < 1e-6


@pytest.mark.parametrize("kind", ["softmax", "cat", "all"])
def test_litert_computes_it_in_float(kind: str, tmp_path: Path):
    model = quantised(Around(kind), "island")
    artifact = export_tflite(model, "litert", tmp_path, "kept", Export())
    observed = {row.op for row in artifact.row.in_float if row.reason.startswith("LiteRT")}
    assert observed - {"TRANSPOSE"} == LITERT[kind]
    assert "FLOOR" not in artifact.row.fused  # the marks
    assert worst_error(artifact, model) < 1e-6


def test_boxes_and_scores_in_one_output_are_joined_in_float(tmp_path: Path):
    model = quantised(Joined())
    for artifact in (
        export_onnx(model, "onnxruntime-x86-vnni", tmp_path, "joined", Export()),
        export_tflite(model, "litert", tmp_path, "joined", Export()),
    ):
        rows = {row.tensor: row for row in artifact.row.quantisation}
        assert rows["boxes/conv2d"].tied_to is None
        assert rows["scores/conv2d"].tied_to is None
        assert rows["boxes/conv2d"].scale[0] > 20 * rows["scores/conv2d"].scale[0]
        assert next(row.reason for row in artifact.row.in_float if row.node == "/cat").startswith(
            "kept in float: /cat would"
        )
        assert artifact.row.outputs[0].dtype == "float32"
        assert worst_error(artifact, model) < 1e-6
