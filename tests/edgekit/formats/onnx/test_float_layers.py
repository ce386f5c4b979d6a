"""Layers kept in float: ONNX Runtime computes them in float, with the very weights, and everything else as before."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from edgekit.formats.artifact import Artifact
from edgekit.formats.onnx.export import export_onnx
from edgekit.formats.onnx.float_layers import keep_layers_in_float
from edgekit.nets.model import Model
from edgekit.nets.quantisation import Kept
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import Export, ModelSource
from edgekit.schema.tensors import InputSpec, OutputSpec
from tests import nets
from tests.edgekit.formats.quantised import context, quantised


def keeping(model: Model, *names: str) -> Model:
    assert model.table is not None
    kept = {name: Kept("float", "it loses too much") for name in names}
    return replace(model, table=replace(model.table, kept=kept))


def _run(artifact: Artifact, x: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(artifact.path), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"image": x.numpy()})
    return np.asarray(output)


@pytest.mark.parametrize("name", ["stem/conv2d", "conv1/conv2d", "conv2/conv2d", "linear/linear"])
def test_a_layer_kept_in_float_is_computed_with_its_float_weight(name: str, tmp_path: Path) -> None:
    whole = quantised(nets.TINY_RESIDUAL)
    model = keeping(whole, name)
    artifact = export_onnx(model, "onnxruntime-x86-vnni", tmp_path, "kept", Export())
    all_integer = export_onnx(whole, "onnxruntime-x86-vnni", tmp_path, "all", Export())
    assert next((r.node, r.reason) for r in artifact.row.in_float) == (name, "kept in float: it loses too much")
    kind, integer = ("Gemm", "QGemm") if name.startswith("linear") else ("Conv", "QLinearConv")
    assert artifact.row.fused[kind] == 1
    assert artifact.row.fused.get(integer, 0) == all_integer.row.fused[integer] - 1
    weight = name.split("/")[0] + ".weight"
    assert weight not in {row.tensor for row in artifact.row.quantisation}
    for x in model.example(6, seed=3)[0]:
        # no code differs: not one weight was rounded. 1e-6: float32 sums in another order
        assert np.abs(_run(artifact, x[None]) - artifact.program(x[None])[0].numpy()).max() < 1e-6


class _Narrow(nn.Module):
    """A layer that reads one channel: its DQ cannot be spelled along the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.narrow, self.last = nn.Conv2d(2, 1, 3), nn.Conv2d(1, 3, 3), nn.Conv2d(3, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.narrow(self.first(x).relu()).relu())


def test_a_layer_that_reads_one_channel_stays_in_float_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = ModelSource(factory="tests:narrow", inputs=(InputSpec(name="image", shape=(1, 2, 10, 10)),))
    plain = Model(_Narrow().eval(), source, (OutputSpec(name="output", shape=(1, 2, 4, 4)),))
    model = keeping(quantize(plain, QuantizeOptions(), context(plain)), "narrow/conv2d")
    artifact = export_onnx(model, "onnxruntime-x86-vnni", tmp_path, "model", Export())
    assert artifact.row.fused["QLinearConv"] == 2
    (x,) = model.example(1, seed=2)
    assert np.abs(_run(artifact, x) - artifact.program(x)[0].numpy()).max() < 1e-6


def test_nothing_is_spelled_anew_where_nothing_is_kept(tmp_path: Path) -> None:
    artifact = export_onnx(quantised(nets.TINY_RESIDUAL), "onnxruntime-x86-vnni", tmp_path, "model", Export())
    model = onnx.load(artifact.path)
    before = model.SerializeToString()
    assert keep_layers_in_float(model) == 0
    assert model.SerializeToString() == before


def test_the_spelling_is_what_keeps_it_in_float(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the runtime quantises the weight by itself: if it ever stops, the rewrite can go."""
    monkeypatch.setattr("edgekit.formats.onnx.export.keep_layers_in_float", lambda model: 0)
    model = keeping(quantised(nets.TINY_RESIDUAL), "conv1/conv2d")
    artifact = export_onnx(model, "onnxruntime-x86-vnni", tmp_path, "model", Export())
    assert artifact.row.fused["QLinearConv"] == 3
