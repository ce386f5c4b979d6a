"""ONNX files: what ONNX Runtime gives for them, what is in them, and what must not be."""

import platform
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgekit.formats.artifact import Artifact
from edgekit.formats.onnx.export import export_onnx
from edgekit.nets.model import Model
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import Export, ModelSource
from edgekit.schema.tensors import InputSpec, OutputSpec
from tests import nets
from tests.edgekit.formats.quantised import context, quantised

ONNX_CONVENTIONS = ("onnxruntime-x86-vnni", "onnxruntime-x86", "onnxruntime-arm")


def _run(artifact: Artifact, x: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(artifact.path), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"image": x.numpy()})
    return np.asarray(output)


@pytest.mark.parametrize("counted", nets.COUNTED)
@pytest.mark.parametrize("convention", ONNX_CONVENTIONS)
def test_runtime_agrees_with_the_program_to_one_code(counted: nets.Counted, convention: str, tmp_path: Path) -> None:
    model = quantised(counted)
    artifact = export_onnx(model, convention, tmp_path, "model", Export(batch=8))
    (x,) = model.example(8, seed=3)
    scale = [q.scale[0] for q in artifact.row.quantisation if q.role == "activation"][-1]
    error = np.abs(_run(artifact, x) - artifact.program(x)[0].numpy()).max()
    assert error <= 1.01 * scale


@pytest.mark.parametrize("counted", nets.COUNTED)
def test_float_export_equals_the_network(counted: nets.Counted, tmp_path: Path) -> None:
    model = nets.model(counted)
    artifact = export_onnx(model, "onnxruntime-arm", tmp_path, "float", Export(batch=2))
    (x,) = model.example(2, seed=1)
    # float32 sums in another order
    np.testing.assert_allclose(_run(artifact, x), model.network(x).detach().numpy(), rtol=1e-5, atol=1e-5)
    assert artifact.row.precision == "fp32"
    assert artifact.row.quantisation == ()


def test_nothing_is_left_in_float_and_every_kernel_is_fused(tmp_path: Path) -> None:
    artifact = export_onnx(quantised(nets.TINY_RESIDUAL), "onnxruntime-x86-vnni", tmp_path, "model", Export())
    assert artifact.row.in_float == ()
    assert artifact.row.fused["QLinearConv"] == 3
    assert artifact.row.fused_by == f"onnxruntime {onnxruntime.__version__} on {platform.machine()}"
    assert artifact.row.fused["QLinearAdd"] == 1
    assert artifact.row.fused["QLinearGlobalAveragePool"] == 1
    assert artifact.row.fused["QGemm"] == 1


def test_an_operator_without_an_integer_kernel_is_named_as_float(tmp_path: Path) -> None:
    class Wave(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sin(self.conv(x))

    plain = replace(nets.model(nets.TINY_CONV), network=Wave().eval())
    plain = replace(plain, outputs=(plain.outputs[0].model_copy(update={"shape": (1, 3, 6, 6)}),))
    model = quantize(plain, QuantizeOptions(), context(plain))
    artifact = export_onnx(model, "onnxruntime-x86-vnni", tmp_path, "model", Export())
    assert next((row.node, row.op) for row in artifact.row.in_float) == ("/sin", "aten.sin.default")
    assert any(row.op == "Sin" and "ONNX Runtime" in row.reason for row in artifact.row.in_float)


def test_weights_are_stored_as_integers(tmp_path: Path) -> None:
    artifact = export_onnx(quantised(nets.TINY_CONV), "onnxruntime-arm", tmp_path, "model", Export())
    graph = onnx.load(artifact.path).graph
    kinds = Counter(numpy_helper.to_array(t).dtype.name for t in graph.initializer if len(t.dims) > 1)
    assert kinds == {"int8": 4}  # three convolutions and a linear layer, none in float
    quantised_nodes = [n for n in graph.node if n.op_type == "QuantizeLinear"]
    initialisers = {t.name for t in graph.initializer}
    assert not any(n.input[0] in initialisers for n in quantised_nodes)


def _every_string(message: onnx.ModelProto) -> str:
    return message.SerializeToString().decode("latin-1")


@pytest.mark.parametrize("make", [nets.model, quantised])
def test_no_trace_of_the_exporter_or_of_this_machine(make: object, tmp_path: Path) -> None:
    model: Model = make(nets.TINY_CONV)  # type: ignore[operator]
    artifact = export_onnx(model, "onnxruntime-arm", tmp_path, "model", Export())
    content = _every_string(onnx.load(artifact.path))
    for trace in ("pytorch", "stack_trace", ".py", "File ", str(Path.home()), str(tmp_path), "pkg.torch", "edgekit"):
        assert trace not in content, trace


def test_same_model_from_two_directories_is_the_same_file(tmp_path: Path) -> None:
    first = export_onnx(quantised(nets.TINY_CONV), "onnxruntime-arm", tmp_path / "a", "model", Export())
    second = export_onnx(quantised(nets.TINY_CONV), "onnxruntime-arm", tmp_path / "b" / "c", "model", Export())
    assert first.row.sha256 == second.row.sha256


def test_inputs_and_outputs_have_the_networks_names(tmp_path: Path) -> None:
    artifact = export_onnx(nets.model(nets.TINY_CONV), "onnxruntime-arm", tmp_path, "model", Export(batch=4))
    graph = onnx.load(artifact.path).graph
    assert [i.name for i in graph.input] == ["image"]
    assert [o.name for o in graph.output] == ["output"]
    assert artifact.row.inputs[0].shape == (4, 2, 8, 8)


def test_outside_witness_onnx_runtimes_own_quantiser_is_as_close_to_the_float_network(tmp_path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    model = quantised(nets.TINY_RESIDUAL)
    plain = nets.model(nets.TINY_RESIDUAL)
    ours = export_onnx(model, "onnxruntime-x86-vnni", tmp_path, "ours", Export())
    reference = export_onnx(plain, "onnxruntime-x86-vnni", tmp_path, "float", Export())
    (samples,) = plain.example(40, seed=3)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.items = iter([{"image": x[None].numpy()} for x in samples])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.items, None)

    quantize_static(
        str(reference.path),
        str(tmp_path / "theirs.onnx"),
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    peer = onnxruntime.InferenceSession(str(tmp_path / "theirs.onnx"), providers=["CPUExecutionProvider"])
    errors = []
    for run in (lambda x: _run(ours, x), lambda x: peer.run(None, {"image": x.numpy()})[0]):
        real = torch.cat([plain.network(x[None]) for x in samples]).detach().numpy()
        given = np.concatenate([run(x[None]) for x in samples])
        errors.append(float(((given - real) ** 2).mean()))
    assert errors[0] <= 1.25 * errors[1]  # the same ranges and grids; roundings fall either way


class _Pools(nn.Module):
    """A pool between integers, and a sine that no convention computes in integers, pooled after it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = nn.functional.max_pool2d(self.conv(x).relu(), 2)
        return self.head(x), nn.functional.max_pool2d(self.head(x).sin(), 2)


def test_what_the_runtime_computes_in_float_is_told_by_types_not_by_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = ModelSource(factory="tests:pools", inputs=(InputSpec(name="image", shape=(1, 2, 8, 8)),))
    outputs = tuple(OutputSpec(name=f"output{i}", shape=(1, 3, 4 - 2 * i, 4 - 2 * i)) for i in range(2))
    plain = Model(_Pools().eval(), source, outputs)
    model = quantize(plain, QuantizeOptions(), context(plain))
    artifact = export_onnx(model, "onnxruntime-arm", tmp_path, "model", Export())
    ours = {row.op for row in artifact.row.in_float if "ONNX Runtime" not in row.reason}
    assert ours == {"aten.sin.default"}
    # the first pool runs on integers, under a name of the optimiser's; the one behind the sine runs on floats
    assert artifact.row.fused["NhwcMaxPool"] == 1
    observed = [row.op for row in artifact.row.in_float if "ONNX Runtime" in row.reason]
    assert sorted(observed) == ["MaxPool", "Sin"]
