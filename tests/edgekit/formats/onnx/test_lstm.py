"""LSTM layers with dynamic activations in ONNX: their codes, and what ONNX Runtime and its own quantiser give."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from torch import Tensor, nn

from edgekit.formats.artifact import Artifact
from edgekit.formats.onnx.export import export_onnx
from edgekit.nets.load import find_outputs
from edgekit.nets.lstm import lstm_weights
from edgekit.nets.model import Model
from edgekit.nets.program import trace
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import Export, ModelSource
from edgekit.schema.tensors import InputSpec
from tests import nets
from tests.edgekit.formats.quantised import context

CONVENTION = "onnxruntime-x86-vnni"
pytestmark = pytest.mark.filterwarnings(
    "ignore:The tensor attributes"
)  # torch.export of an nn.LSTM warns of its own list


class Reader(nn.Module):
    """(N, 6, 10) -> (N, 3): two layers, the first in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.LSTM(10, 12, batch_first=True, bidirectional=True)
        self.one = nn.LSTM(24, 8, batch_first=True)
        self.classes = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.both(x)
        x, _ = self.one(x)
        return self.classes(x[:, -1])


def _plain(network: nn.Module) -> Model:
    source = ModelSource(factory="tests:reader", inputs=(InputSpec(name="sequence", shape=(1, 6, 10), layout="NTC"),))
    return Model(network, source, find_outputs(network, source))


@pytest.fixture(scope="module")
def plain() -> Model:
    return _plain(nets._trained(Reader()))


@pytest.fixture(scope="module")
def model(plain: Model) -> Model:
    return quantize(plain, QuantizeOptions(activations="dynamic", bias_correction="none"), context(plain))


@pytest.fixture(scope="module")
def artifact(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return export_onnx(model, CONVENTION, tmp_path_factory.mktemp("lstm"), "model", Export(batch=2))


def _run(path: Path, x: Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"sequence": x.numpy()})[0])


def test_weights_of_a_layer_stand_together_by_direction(plain: Model) -> None:
    assert lstm_weights(trace(plain)) == (
        ("both.weight_ih_l0", "both.weight_ih_l0_reverse"),
        ("both.weight_hh_l0", "both.weight_hh_l0_reverse"),
        ("one.weight_ih_l0",),
        ("one.weight_hh_l0",),
    )


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_projections_have_no_codes() -> None:
    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(10, 12, batch_first=True, proj_size=4)

        def forward(self, x: Tensor) -> Tensor:
            return self.lstm(x)[0][:, -1]

    assert lstm_weights(trace(_plain(nets._trained(Projected())))) == ()


def test_codes_by_hand_in_onnx_order_of_gates(model: Model, artifact: Artifact) -> None:
    graph = onnx.load(artifact.path).graph
    stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    first, second = [n for n in graph.node if n.op_type == "DynamicQuantizeLSTM"]
    assert model.table is not None
    weight = model.table.weights["both.weight_hh_l0_reverse"]
    codes, scale = stored[first.input[2]], stored[first.input[10]]
    assert (codes.shape, codes.dtype, scale.shape) == ((2, 12, 48), np.int8, (2, 48))
    # rows of PyTorch: i 0, f 12, g 24, o 36; columns of ONNX: i 0, o 12, f 24, g 36
    for row, column in ((5, 5), (12 + 3, 24 + 3), (24 + 7, 36 + 7), (36, 12)):
        np.testing.assert_array_equal(codes[1, :, column], weight.codes[row].numpy())
        assert scale[1, column] == weight.scale[row]
    assert stored[second.input[1]].shape == (1, 24, 32)
    assert not any(stored[first.input[i]].any() for i in (9, 11))  # zero points


def test_runtime_agrees_with_the_network_to_8_bits(plain: Model, artifact: Artifact) -> None:
    (x,) = plain.example(2, seed=5)
    real, given = plain.network(x).detach().numpy(), _run(artifact.path, x)
    error = np.abs(given - real).max() / np.abs(real).max()
    assert 1e-6 < error < 0.03
    assert np.abs(artifact.program(x)[0].numpy() - given).max() < 0.03 * np.abs(real).max()
    assert artifact.row.fused["DynamicQuantizeLSTM"] == 2
    assert artifact.row.in_float == ()
    assert {"both.weight_ih_l0", "one.weight_hh_l0", "classes.weight"} <= {q.tensor for q in artifact.row.quantisation}


def test_outside_witness_onnx_runtimes_own_dynamic_quantiser(plain: Model, artifact: Artifact, tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    reference = export_onnx(plain, CONVENTION, tmp_path, "float", Export(batch=2))
    theirs = tmp_path / "theirs.onnx"
    quantize_dynamic(str(reference.path), str(theirs), per_channel=True, weight_type=QuantType.QInt8)
    (x,) = plain.example(2, seed=5)
    real = plain.network(x).detach().numpy()
    errors = [float(((_run(path, x) - real) ** 2).mean()) for path in (artifact.path, theirs)]
    assert errors[0] <= 1.25 * errors[1]
    assert artifact.row.size_bytes <= theirs.stat().st_size
    assert artifact.row.size_bytes < reference.row.size_bytes - 2.2 * (48 * 10 * 2 + 48 * 12 * 2 + 32 * 24 + 32 * 8)


def test_the_float_file_agrees_with_its_program(plain: Model, tmp_path: Path) -> None:
    artifact = export_onnx(plain, CONVENTION, tmp_path, "float", Export(batch=2))
    (x,) = plain.example(2, seed=5)
    np.testing.assert_allclose(_run(artifact.path, x), artifact.program(x)[0].numpy(), rtol=1e-4, atol=1e-5)


def test_what_has_no_codes_is_named_as_float(plain: Model, tmp_path: Path) -> None:
    options = QuantizeOptions(weights="int8", activations="float", group_size=16, bias_correction="none")
    model = quantize(plain, options, context(plain))
    row = export_onnx(model, CONVENTION, tmp_path, "model", Export(batch=2)).row
    assert [one.op for one in row.in_float] == ["LSTM", "LSTM"]
    assert "no codes" in row.in_float[0].reason
