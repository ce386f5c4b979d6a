"""Layers kept in float: LiteRT computes them in float, with the very weights, in one piece with the integers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.errors import FormatError
from edgekit.formats.tflite.export import export_tflite
from edgekit.schema.recipe import Export
from tests import nets
from tests.edgekit.formats.onnx.test_float_layers import keeping
from tests.edgekit.formats.quantised import quantised
from tests.edgekit.formats.tflite.interpreted import run_litert
from tests.edgekit.formats.transformers import model_of, quantised_model

pytestmark = pytest.mark.filterwarnings("ignore")  # litert-torch and jax warn about themselves


@pytest.mark.parametrize("names", [("conv1/conv2d",), ("stem/conv2d",), ("conv1/conv2d", "conv2/conv2d")])
def test_a_layer_kept_in_float_is_computed_with_its_float_weight(names: tuple[str, ...], tmp_path: Path) -> None:
    model = keeping(quantised(nets.TINY_RESIDUAL), *names)
    artifact = export_tflite(model, "litert", tmp_path, "kept", Export())
    observed = [row.op for row in artifact.row.in_float if row.reason == "LiteRT computes it in float"]
    assert observed == ["CONV_2D"] * len(names)
    assert "FLOOR" not in artifact.row.fused  # the mark
    assert artifact.row.fused["DELEGATE"] == 1
    for x in model.example(6, seed=3)[0]:
        given = run_litert(artifact, x[None])
        assert np.abs(given - artifact.program(x[None])[0].numpy()).max() < 1e-6


def test_an_output_kept_in_float_is_given_in_float_though_others_read_its_codes(tmp_path: Path) -> None:
    """So the state of a step comes out as it goes in."""
    from ai_edge_litert.interpreter import Interpreter

    class Gate(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * x + 1.0

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.gate, self.second = nn.Linear(6, 6), Gate(), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            state = self.gate(self.first(x))
            return self.second(torch.tanh(state)), state

    model = quantised_model(model_of(Two(), (1, 6), "NC"), keep_float=("gate",))
    artifact = export_tflite(model, "litert", tmp_path, "two", Export())
    assert [(t.dtype, t.scale is None) for t in artifact.row.outputs] == [("int8", False), ("float32", True)]
    interpreter = Interpreter(str(artifact.path), num_threads=1)
    interpreter.allocate_tensors()
    given, made = interpreter.get_input_details()[0], {d["name"]: d for d in interpreter.get_output_details()}
    assert [made[t.name]["dtype"] for t in artifact.row.outputs] == [np.int8, np.float32]
    (x,) = model.example(1, seed=3)
    scale, zero_point = given["quantization"]
    interpreter.set_tensor(given["index"], np.clip(np.rint(x.numpy() / scale) + zero_point, -128, 127).astype(np.int8))
    interpreter.invoke()
    state = interpreter.get_tensor(made[artifact.row.outputs[1].name]["index"])
    np.testing.assert_allclose(state, artifact.program(x)[1].numpy(), rtol=1e-5, atol=1e-5)


def test_a_mark_that_is_lost_is_an_error(tmp_path: Path) -> None:
    from edgekit.formats.tflite.rewrite import rewrite

    artifact = export_tflite(quantised(nets.TINY_CONV), "litert", tmp_path, "model", Export())
    with pytest.raises(FormatError) as raised:
        rewrite(artifact.path.read_bytes(), ["image"], ["output"], marks=1)
    assert "shows 0" in raised.value.what


def test_sixteen_bit_activations_are_real_in_litert(tmp_path: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = quantised(nets.TINY_RESIDUAL, activations="int16")
    artifact = export_tflite(model, "litert", tmp_path, "wide", Export())
    assert artifact.row.in_float == ()
    activations = [row for row in artifact.row.quantisation if row.role == "activation"]
    assert {(row.dtype, row.bits, row.zero_point, row.scheme) for row in activations} == {
        ("int16", 16, (0,), "symmetric")
    }
    assert {t.dtype for t in (*artifact.row.inputs, *artifact.row.outputs)} == {"int16"}
    stored = schema.ModelT.InitFromPackedBuf(artifact.path.read_bytes(), 0)
    assert schema.TensorType.INT64 in {tensor.type for tensor in stored.subgraphs[0].tensors}  # biases
    (samples,) = model.example(6, seed=3)
    (output,) = artifact.row.outputs
    assert output.scale is not None
    narrow = export_tflite(quantised(nets.TINY_RESIDUAL), "litert", tmp_path, "narrow", Export())
    errors = []
    for one in (artifact, narrow):
        real = model.network(samples).detach().numpy()
        errors.append(float(np.square(np.concatenate([run_litert(one, x[None]) for x in samples]) - real).mean()))
    for x in samples:
        assert np.abs(run_litert(artifact, x[None]) - artifact.program(x[None])[0].numpy()).max() <= 1.01 * output.scale
    assert errors[0] < errors[1]  # weights are int8 in both, activations are finer


def test_integers_of_four_bits_are_refused_by_name() -> None:
    with pytest.raises(FormatError) as raised:
        export_tflite(quantised(nets.TINY_CONV, activations="int4"), "litert", Path(), "model", Export())
    assert "4-bit" in raised.value.what
