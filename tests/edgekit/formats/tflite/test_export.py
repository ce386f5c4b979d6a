"""TFLite files: what LiteRT gives for them, before and after our rewrites, and what must not be in them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgekit.errors import FormatError
from edgekit.formats.artifact import Artifact
from edgekit.formats.conventions.convention import CONVENTIONS
from edgekit.formats.conventions.lowering import lower
from edgekit.formats.tflite.export import export_tflite
from edgekit.nets.model import Model
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import Export, ModelSource
from edgekit.schema.tensors import InputSpec, OutputSpec
from tests import nets
from tests.edgekit.formats.quantised import context, quantised

pytestmark = pytest.mark.filterwarnings("ignore")  # litert-torch and jax warn about themselves


def _run(content: bytes, x: torch.Tensor) -> tuple[np.ndarray, list[str]]:
    """Codes or floats for one NCHW sample, and the names of the executed operators."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    value = x.permute(0, 2, 3, 1).numpy()
    scale, zero_point = given["quantization"]
    if scale:
        value = np.clip(np.rint(value / np.float32(scale)) + zero_point, -128, 127).astype(np.int8)
    interpreter.set_tensor(given["index"], value)
    interpreter.invoke()
    return interpreter.get_tensor(made["index"]), [op["op_name"] for op in interpreter._get_ops_details()]


class Padded(nn.Module):
    """TensorFlow's SAME at stride 2 on a single channel, beside a shortcut that reads the same tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, 2)
        self.conv = nn.Conv2d(4, 6, 3, 2)
        self.down = nn.Conv2d(4, 6, 1, 2)
        self.linear = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(F.pad(x, (0, 1, 0, 1))))
        x = F.relu(self.conv(F.pad(x, (0, 1, 0, 1))) + self.down(x))
        return self.linear(x.mean((2, 3)))


def _padded() -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = Padded().eval()
    source = ModelSource(factory="tests:padded", inputs=(InputSpec(name="image", shape=(1, 1, 8, 8)),))
    model = Model(network, source, (OutputSpec(name="output", shape=(1, 3)),))
    return quantize(model, QuantizeOptions(), context(model))


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Artifact]:
    model = quantised(nets.TINY_RESIDUAL)
    return model, export_tflite(model, "litert", tmp_path_factory.mktemp("a"), "model", Export())


def test_runtime_agrees_with_the_program_to_one_code(residual: tuple[Model, Artifact]) -> None:
    model, artifact = residual
    (output,) = artifact.row.outputs
    assert output.scale is not None
    assert output.zero_point is not None
    (samples,) = model.example(12, seed=3)
    for x in samples:
        codes, _ = _run(artifact.path.read_bytes(), x[None])
        expected = np.rint(artifact.program(x[None])[0].numpy() / output.scale) + output.zero_point
        assert np.abs(codes.astype(int) - expected).max() <= 1


def test_everything_is_int8_from_input_to_output(residual: tuple[Model, Artifact]) -> None:
    _, artifact = residual
    assert artifact.row.in_float == ()
    assert {t.dtype for t in (*artifact.row.inputs, *artifact.row.outputs)} == {"int8"}
    assert artifact.row.inputs[0].layout == "NHWC"
    assert artifact.row.inputs[0].shape == (1, 6, 6, 1)
    assert artifact.row.fused_by.startswith("ai-edge-litert ")
    assert artifact.row.fused["DELEGATE"] == 1  # XNNPACK takes all of it in one piece
    assert "QUANTIZE" not in artifact.row.fused


def test_no_trace_of_the_exporter(residual: tuple[Model, Artifact]) -> None:
    content = residual[1].path.read_bytes()
    for trace in (b"litert", b"torch", b"MLIR", b"serving_default_args", b".py", str(Path.home()).encode()):
        assert trace not in content.replace(b"serving_default", b""), trace
    assert b"image" in content


def test_same_model_from_two_directories_is_the_same_file(residual: tuple[Model, Artifact], tmp_path: Path) -> None:
    again = export_tflite(quantised(nets.TINY_RESIDUAL), "litert", tmp_path / "deep" / "er", "model", Export())
    assert again.row.sha256 == residual[1].row.sha256


def test_rewrites_change_no_code_and_remove_pads_and_layout_changes() -> None:
    from edgekit.formats.tflite.convert import convert
    from edgekit.formats.tflite.rewrite import rewrite

    model = _padded()
    before = convert(lower(model, CONVENTIONS["litert"]).module, model, 1, integer=True)
    after = rewrite(before, ["image"], ["output"])
    (samples,) = model.example(6, seed=2)
    for x in samples:
        np.testing.assert_array_equal(_run(after, x[None])[0], _run(before, x[None])[0])
    _, operators = _run(after, samples[:1])
    assert "PAD" in _run(before, samples[:1])[1]  # or this shows nothing
    assert not {"PAD", "TRANSPOSE", "DEPTHWISE_CONV_2D"} & set(operators)
    assert len(after) < len(before)


def test_no_buffer_is_empty_but_the_first(residual: tuple[Model, Artifact]) -> None:
    from ai_edge_litert import schema_py_generated as schema

    stored = schema.ModelT.InitFromPackedBuf(residual[1].path.read_bytes(), 0)
    sizes = [0 if buffer.data is None else len(buffer.data) for buffer in stored.buffers]
    assert sizes[0] == 0
    assert all(sizes[1:])
    made = [int(tensor) for op in stored.subgraphs[0].operators for tensor in op.outputs]
    assert {stored.subgraphs[0].tensors[tensor].buffer for tensor in made} == {0}


def test_float_export_equals_the_network(tmp_path: Path) -> None:
    model = nets.model(nets.TINY_CONV)
    artifact = export_tflite(model, "litert", tmp_path, "float", Export())
    (x,) = model.example(1, seed=1)
    output, _ = _run(artifact.path.read_bytes(), x)
    np.testing.assert_allclose(output, model.network(x).detach().numpy(), rtol=1e-5, atol=1e-5)
    assert artifact.row.precision == "fp32"


def test_converting_leaves_no_log_handler_behind(tmp_path: Path) -> None:
    """In a process of its own: libraries hang their handler on the root logger when they are first imported."""
    script = f"""
import logging
import subprocess
import sys
from pathlib import Path
from edgekit.formats.tflite.export import export_tflite
from edgekit.schema.recipe import Export
from tests import nets
before = list(logging.root.handlers)
export_tflite(nets.model(nets.TINY_CONV), "litert", Path({str(tmp_path)!r}), "float", Export())
assert logging.root.handlers == before, logging.root.handlers
logging.getLogger("edgekit").warning("heard")
"""
    root = Path(__file__).resolve().parents[4]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "heard\n"
    assert done.stdout == ""


class _Composite(nn.Module):
    """A pool that leaves its padding out, which the converter writes as a composite with a graph of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))


def test_a_composite_operator_keeps_its_graph(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = ModelSource(factory="tests:composite", inputs=(InputSpec(name="image", shape=(1, 2, 8, 8)),))
    model = Model(_Composite().eval(), source, (OutputSpec(name="output", shape=(1, 4, 6, 6)),))
    artifact = export_tflite(model, "litert", tmp_path, "float", Export())
    (x,) = model.example(1, seed=1)
    output, _ = _run(artifact.path.read_bytes(), x)
    expected = model.network(x).detach().permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)


class _Repeated(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = x.relu()
        return x, x


def test_a_tensor_that_is_two_outputs_is_refused(tmp_path: Path) -> None:
    source = ModelSource(factory="tests:repeated", inputs=(InputSpec(name="image", shape=(1, 2, 4, 4)),))
    outputs = tuple(OutputSpec(name=f"output{i}", shape=(1, 2, 4, 4)) for i in range(2))
    with pytest.raises(FormatError) as raised:
        export_tflite(Model(_Repeated().eval(), source, outputs), "litert", tmp_path, "float", Export())
    assert "two inputs or outputs" in raised.value.what


class _Viewed(nn.Module):
    """The flattening of older networks: a view, which a channels-last map does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.linear = nn.Linear(144, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.conv(x).view(x.shape[0], -1))


def test_a_view_of_a_feature_map_is_expressed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = ModelSource(factory="tests:viewed", inputs=(InputSpec(name="image", shape=(1, 2, 8, 8)),))
    model = Model(_Viewed().eval(), source, (OutputSpec(name="output", shape=(1, 3)),))
    artifact = export_tflite(model, "litert", tmp_path, "float", Export())
    (x,) = model.example(1, seed=1)
    np.testing.assert_allclose(_run(artifact.path.read_bytes(), x)[0], model.network(x).detach(), rtol=1e-5, atol=1e-5)
