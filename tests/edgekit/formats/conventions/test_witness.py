"""What the witness gives where a kernel's own rounding decides: sums that lie just between two codes."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from edgekit.formats.conventions.convention import CONVENTIONS
from edgekit.formats.conventions.lowering import lower
from edgekit.formats.conventions.witness import Witness
from edgekit.formats.onnx.export import export_onnx
from edgekit.formats.tflite.export import export_tflite
from edgekit.nets.load import find_outputs
from edgekit.nets.model import Model
from edgekit.nets.quantisation import EdgeRange, QuantisationTable, WeightCodes
from edgekit.schema.recipe import Export, ModelSource
from edgekit.schema.tensors import InputSpec
from tests.edgekit.formats.tflite.interpreted import run_litert
from tests.edgekit.formats.transformers import model_of

INPUT, OUTPUT = np.float32(0.01), np.float32(0.0014)
WEIGHT = np.array([0.07, 0.15], np.float32)
CODES = np.array([1, 3], np.int32)
BIAS = np.array([3, -8], np.int32)
EXPORTED = {"conv": 1, "linear": 256}  # batch that holds every code of the input


class _Scaled(nn.Module):
    """As a convolution and as a linear layer, one input to each of two channels."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.layer: nn.Module = nn.Conv2d(1, 2, 1) if kind == "conv" else nn.Linear(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.relu(self.layer(x))
        return out


def _model(kind: str) -> Model:
    """One layer; its first channel's factor is 0.5 in float32 and a hair more in exact arithmetic."""
    model = model_of(_Scaled(kind), *(((1, 1, 1, 256), "NCHW") if kind == "conv" else ((1, 1), "NC")))
    shape = (2, 1, 1, 1) if kind == "conv" else (2, 1)
    with torch.no_grad():
        for parameter, values in zip(
            model.network.parameters(), (CODES * WEIGHT, BIAS * INPUT.astype(np.float64) * WEIGHT), strict=True
        ):
            parameter.copy_(torch.from_numpy(values).reshape(parameter.shape))
    table = QuantisationTable(
        edges={
            "input:image": EdgeRange(0.0, float(INPUT) * 255, float(INPUT), -128),
            "relu/relu": EdgeRange(0.0, float(OUTPUT) * 255, float(OUTPUT), -128),
        },
        weights={
            "layer.weight": WeightCodes(
                torch.from_numpy(CODES).to(torch.int8).reshape(shape), torch.from_numpy(WEIGHT), 0
            )
        },
    )
    return replace(model, table=table)


def _every_code(kind: str) -> torch.Tensor:
    real = torch.arange(256) * float(INPUT)
    return real.reshape(1, 1, 1, 256) if kind == "conv" else real.reshape(256, 1)


def _by_hand(exactly: bool) -> np.ndarray:
    """Codes of both channels for every code of the input, (2, 256)."""
    sums = CODES[:, None] * np.arange(256) + BIAS[:, None]
    if exactly:
        ratios = sums * (np.float64(INPUT) * WEIGHT.astype(np.float64) / np.float64(OUTPUT))[:, None]
    else:
        ratios = sums.astype(np.float32) * (INPUT * WEIGHT / OUTPUT)[:, None]
        assert ratios.dtype == np.float32
    return np.clip(np.rint(ratios), 0, 255).astype(np.int64)


def _codes(given: np.ndarray, kind: str) -> np.ndarray:
    flat = given.reshape(2, 256) if kind == "conv" else given.T
    return np.rint(flat.astype(np.float64) / OUTPUT).astype(np.int64)


@pytest.mark.parametrize("kind", ["conv", "linear"])
@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=lambda row: row.name)
def test_a_sum_becomes_a_code_by_one_float32_where_the_kernels_do_so(kind: str, convention) -> None:
    assert (_by_hand(exactly=True) != _by_hand(exactly=False)).sum() == 64  # ties: to the even code, or always up
    (given,) = Witness(lower(_model(kind), convention, EXPORTED[kind]).module, convention)(_every_code(kind))
    if convention.name == "tensorrt":  # floats leave its last layer: no code is made of the sum
        assert not convention.scales_in_float32
        return
    np.testing.assert_array_equal(_codes(given.numpy(), kind), _by_hand(exactly=False))


def test_without_a_convention_the_program_is_exact() -> None:
    (given,) = Witness(lower(_model("conv"), CONVENTIONS["litert"]).module)(_every_code("conv"))
    np.testing.assert_array_equal(_codes(given.numpy(), "conv"), _by_hand(exactly=True))


@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_onnxruntime_rounds_as_the_witness(kind: str, tmp_path: Path) -> None:
    artifact = export_onnx(_model(kind), "onnxruntime-x86-vnni", tmp_path, "model", Export(batch=EXPORTED[kind]))
    x = _every_code(kind)
    session = onnxruntime.InferenceSession(str(artifact.path), providers=["CPUExecutionProvider"])
    (given,) = session.run(None, {"image": x.numpy()})
    np.testing.assert_array_equal(_codes(given, kind), _codes(artifact.program(x)[0].numpy(), kind))


@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_litert_rounds_as_the_witness(kind: str, tmp_path: Path) -> None:
    artifact = export_tflite(_model(kind), "litert", tmp_path, "model", Export(batch=EXPORTED[kind]))
    x = _every_code(kind)
    given = run_litert(artifact, x)
    given = np.moveaxis(given, -1, 1) if kind == "conv" else given  # channels-last
    np.testing.assert_array_equal(_codes(given, kind), _codes(artifact.program(x)[0].numpy(), kind))


class _Sum(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the arithmetic of ONNX Runtime's kernel for AVX2")
def test_onnxruntime_adds_as_the_witness(tmp_path: Path) -> None:
    scales, zero_point = {"input:a": 0.03, "input:b": 0.05, "/add": 0.1}, 3  # many sums lie just between two codes
    specs = tuple(InputSpec(name=name, shape=(1, 1, 256, 256)) for name in "ab")
    source = ModelSource(factory="tests:sum", inputs=specs)
    edges = {
        name: EdgeRange(-zero_point * scale, (255 - zero_point) * scale, scale, zero_point - 128)
        for name, scale in scales.items()
    }
    model = Model(_Sum(), source, find_outputs(_Sum(), source), table=QuantisationTable(edges, {}))
    artifact = export_onnx(model, "onnxruntime-x86-vnni", tmp_path, "model", Export())
    assert artifact.row.fused["QLinearAdd"] == 1
    codes = torch.arange(256) - zero_point
    a = (codes * 0.03).reshape(1, 1, 256, 1).expand(1, 1, 256, 256).contiguous()
    b = (codes * 0.05).reshape(1, 1, 1, 256).expand(1, 1, 256, 256).contiguous()
    session = onnxruntime.InferenceSession(str(artifact.path), providers=["CPUExecutionProvider"])
    (given,) = session.run(None, {"a": a.numpy(), "b": b.numpy()})
    found, exact = (
        Witness(lower(model, CONVENTIONS["onnxruntime-x86-vnni"]).module, convention)(a, b)[0].numpy()
        for convention in (CONVENTIONS["onnxruntime-x86-vnni"], None)
    )
    np.testing.assert_array_equal(*(np.rint(values / 0.1).astype(int) for values in (given, found)))
    assert (np.rint(exact / 0.1) != np.rint(given / 0.1)).sum() > 100
