"""Weights as codes in ONNX: what ONNX Runtime gives for them, against PyTorch with the weights that the codes mean."""

import functools
import platform
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper

from edgekit.errors import FormatError
from edgekit.formats.artifact import Artifact
from edgekit.formats.onnx.export import export_onnx
from edgekit.formats.table import export
from edgekit.nets.quantisation import Kept
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import Export
from tests import nets
from tests.edgekit.formats.mixers import CHANNELS, WEIGHTS, dequantised, plain_mixer, quantised_mixer
from tests.edgekit.formats.quantised import context, quantised

CONVENTION = "onnxruntime-x86-vnni"
Exporter: TypeAlias = Callable[..., Artifact]
WEIGHT_ONLY = [
    {"weights": "int4", "group_size": 16},
    {"weights": "int4"},
    {"weights": "int8", "group_size": 16},
    {"weights": "int8"},
    {"weights": "fp16"},
    {"weights": "bf16"},
    {"weights": "fp8_e4m3fn"},
    {"weights": "fp8_e5m2"},
    {"weights": "e2m1"},
    {"weights": "e4m3"},
]


def _id(options: object) -> str:
    return " ".join(map(str, options.values())) if isinstance(options, dict) and "weights" in options else ""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    """Exports of the mixer at batch 3, each made once."""

    @functools.cache
    def make(**options: object) -> Artifact:
        model = quantised_mixer(**options) if options else plain_mixer()
        return export_onnx(model, CONVENTION, tmp_path_factory.mktemp("onnx"), "model", Export(batch=3))

    return make


def _run(artifact: Artifact, x: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(artifact.path), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"image": x.numpy()})
    return np.asarray(output)


def _inputs() -> torch.Tensor:
    (x,) = plain_mixer().example(3, seed=5)
    return x


@pytest.mark.parametrize("options", WEIGHT_ONLY, ids=_id)
def test_runtime_computes_with_the_weights_that_the_codes_mean(options: dict[str, object], exported: Exporter) -> None:
    artifact = exported(**options, activations="float")
    x = _inputs()
    expected = dequantised(quantised_mixer(**options, activations="float"))(x).detach().numpy()
    for given in (_run(artifact, x), artifact.program(x)[0].numpy()):
        # float32 sums in another order
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_folded_norms_and_corrected_biases_are_in_the_file(tmp_path: Path) -> None:
    model = quantised(nets.TINY_RESIDUAL, weights="int4", activations="float", group_size=16)
    artifact = export_onnx(model, CONVENTION, tmp_path, "model", Export(batch=3))
    (x,) = model.example(3, seed=5)
    expected = artifact.program(x)[0].numpy()
    np.testing.assert_allclose(_run(artifact, x), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert np.abs(expected - model.network(x).detach().numpy()).max() > 1e-3  # the codes were used


@pytest.mark.parametrize(
    ("options", "kernels", "in_float", "precision"),
    [
        ({"weights": "int4", "group_size": 16}, {"MatMulNBits": 3}, 2, "int4-weights"),
        ({"weights": "int8", "group_size": 16}, {"MatMulNBits": 3}, 2, "int8-weights"),
        ({"weights": "int8"}, {}, 5, "int8-weights"),
        ({"weights": "fp16"}, {}, 5, "fp16-weights"),
        ({"weights": "fp8_e5m2"}, {}, 5, "fp8-weights"),
        ({"weights": "e2m1"}, {}, 5, "minifloat-weights"),
    ],
    ids=_id,
)
def test_what_computes_with_codes_and_what_does_not(
    options: dict[str, object], kernels: dict[str, int], in_float: int, precision: str, exported: Exporter
) -> None:
    row = exported(**options, activations="float").row
    assert row.precision == precision
    assert {name: count for name, count in row.fused.items() if name == "MatMulNBits"} == kernels
    assert len(row.in_float) == in_float
    assert {"Conv"} <= {one.op for one in row.in_float}
    assert all("when the file is loaded" in one.reason for one in row.in_float)
    # decoding is folded away: no operator of it is left to be computed in every run
    assert not {"DequantizeLinear", "Cast", "Gather", "Slice"} & set(row.fused)


@pytest.mark.parametrize(
    ("options", "bytes_of_weights"),
    [
        ({"weights": "int8"}, WEIGHTS + CHANNELS * 4),
        ({"weights": "int4"}, WEIGHTS // 2 + CHANNELS * 4),
        ({"weights": "fp16"}, 2 * WEIGHTS),
        ({"weights": "e4m3"}, WEIGHTS + CHANNELS * 4 + 5 * 256 * 4),
        ({"weights": "e2m1"}, WEIGHTS // 2 + CHANNELS * 4 + 5 * 16 * 4),
        # groups of 16: 8 inputs 1, 9 inputs 1, 40 inputs 3, 64 inputs 4, 40 inputs 3
        ({"weights": "int4", "group_size": 16}, (40 + 40 + 64 * 3 + 40 * 4 + 5 * 3) * (8 + 4)),
    ],
    ids=_id,
)
def test_the_file_shrinks(options: dict[str, object], bytes_of_weights: int, exported: Exporter) -> None:
    rest = exported().row.size_bytes - 4 * WEIGHTS  # graph, biases, the norm
    artifact = exported(**options, activations="float")
    assert bytes_of_weights < artifact.row.size_bytes < bytes_of_weights + rest + 3500  # names of the new nodes
    floats = [t for t in onnx.load(artifact.path).graph.initializer if t.data_type == TensorProto.FLOAT]
    assert max(np.prod(t.dims) for t in floats) < 2560 / 4  # no weight is left in float32 beside its codes


def test_nibbles_and_scales_of_matmul_nbits_by_hand(exported: Exporter) -> None:
    model = quantised_mixer(weights="int4", group_size=16, activations="float")
    graph = onnx.load(exported(weights="int4", group_size=16, activations="float").path).graph
    (node,) = [n for n in graph.node if n.op_type == "MatMulNBits" and n.output[0] == "output"]
    attributes = {a.name: a.i for a in node.attribute}
    assert attributes == {"K": 40, "N": 5, "bits": 4, "block_size": 16}
    stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    packed, scales = stored[node.input[1]], stored[node.input[2]]
    assert model.table is not None
    weight = model.table.weights["classes.weight"]
    assert packed.shape == (5, 3, 8)  # (N, ceil(K / block), block * bits / 8)
    assert packed.dtype == np.uint8
    np.testing.assert_array_equal(scales, weight.scale.numpy())
    for row, column in ((0, 0), (3, 17), (4, 39)):
        byte = int(packed[row, column // 16, column % 16 // 2])
        nibble = byte & 15 if column % 2 == 0 else byte >> 4
        assert nibble - 8 == int(weight.codes[row, column])
    assert (packed[:, 2, 4:] == 0x88).all()  # beyond the 40 inputs: zeros, stored 8 higher


@pytest.mark.parametrize(
    ("options", "kernels", "precision"),
    [
        ({"weights": "int8"}, {"DynamicQuantizeMatMul": 3}, "int8-dynamic"),
        ({"weights": "int4"}, {"DynamicQuantizeMatMul": 3}, "int4-dynamic"),
        ({"weights": "int8", "group_size": 16}, {"MatMulNBits": 3}, "int8-dynamic"),
        ({"weights": "int4", "group_size": 16}, {"MatMulNBits": 3}, "int4-dynamic"),
    ],
    ids=_id,
)
def test_dynamic_layers_round_their_inputs_as_the_program_does(
    options: dict[str, object], kernels: dict[str, int], precision: str, exported: Exporter
) -> None:
    artifact = exported(**options, activations="dynamic")
    row = artifact.row
    assert {name: count for name, count in row.fused.items() if "MatMul" in name} == kernels
    assert row.precision == precision
    assert [one.op for one in row.in_float] == ["Conv", "Conv"]
    x = _inputs()
    given, expected = _run(artifact, x), artifact.program(x)[0].numpy()
    plain = dequantised(quantised_mixer(**options, activations="dynamic"))(x).detach().numpy()
    rounded = np.abs(expected - plain).max()  # what the rounding of inputs costs
    assert rounded > 1e-3 * np.abs(expected).max()
    assert np.median(np.abs(given - expected)) < 0.01 * rounded
    assert np.abs(given - expected).max() < rounded  # a code or two fall on the other side of the middle


def test_layers_that_read_one_activation_share_its_codes(tmp_path: Path) -> None:
    class Fork(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(8, 6), torch.nn.Linear(8, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(x)
            return self.first(x) + torch.sigmoid(self.second(x))

    plain = nets.model(nets.TINY_CONV)
    plain = replace(plain, network=nets._trained(Fork()))
    plain = replace(plain, outputs=(plain.outputs[0].model_copy(update={"shape": (1, 2, 8, 6)}),))
    model = quantize(plain, QuantizeOptions(activations="dynamic"), context(plain))
    artifact = export_onnx(model, CONVENTION, tmp_path, "model", Export(batch=3))
    counts = Counter(n.op_type for n in onnx.load(artifact.path).graph.node)
    assert (counts["DynamicQuantizeLinear"], counts["MatMulInteger"]) == (1, 2)
    (x,) = model.example(3, seed=5)
    np.testing.assert_allclose(_run(artifact, x), artifact.program(x)[0].numpy(), rtol=1e-3, atol=1e-4)


def test_outside_witness_onnx_runtimes_own_dynamic_quantiser(exported: Exporter, tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        str(exported().path),
        str(tmp_path / "theirs.onnx"),
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    model = quantised_mixer(weights="int8", activations="dynamic")
    assert model.table is not None
    kept = {f"{name}/conv2d": Kept("float", "theirs leaves it in float32") for name in ("patches", "depthwise")}
    same = replace(model, table=replace(model.table, kept=kept))
    ours = export_onnx(same, CONVENTION, tmp_path, "ours", Export(batch=3))
    peer = onnxruntime.InferenceSession(str(tmp_path / "theirs.onnx"), providers=["CPUExecutionProvider"])
    x = _inputs()
    real = plain_mixer().network(x).detach().numpy()
    errors = [float(((y - real) ** 2).mean()) for y in (_run(ours, x), peer.run(None, {"image": x.numpy()})[0])]
    assert errors[0] <= 1.25 * errors[1]  # the same grids
    assert ours.row.size_bytes < (tmp_path / "theirs.onnx").stat().st_size


def test_half_precision_inside_float32_outside(exported: Exporter) -> None:
    artifact = exported(weights="fp16", activations="fp16")
    graph = onnx.load(artifact.path).graph
    assert artifact.row.precision == "fp16"
    assert {i.type.tensor_type.elem_type for i in [*graph.input, *graph.output]} == {TensorProto.FLOAT}
    assert all(t.data_type != TensorProto.FLOAT for t in graph.initializer)
    x = _inputs()
    expected = plain_mixer().network(x).detach().numpy()
    error = np.abs(_run(artifact, x) - expected).max() / np.abs(expected).max()
    assert 1e-6 < error < 2**-8  # float16 has 11 bits; a few operators round one after the other
    assert np.abs(artifact.program(x)[0].numpy() - expected).max() < 2**-8 * np.abs(expected).max()
    if platform.machine() == "x86_64":  # ONNX Runtime has no float16 kernels of these there
        assert {"Conv"} <= {one.op for one in artifact.row.in_float}


def test_a_layer_kept_in_float_keeps_its_weight(tmp_path: Path) -> None:
    model = quantised_mixer(weights="int4", group_size=16, activations="float")
    assert model.table is not None
    table = replace(model.table, kept={"classes/linear": Kept("float", "test")})
    row = export_onnx(replace(model, table=table), CONVENTION, tmp_path, "model", Export()).row
    assert row.fused["MatMulNBits"] == 2
    assert "classes.weight" not in {q.tensor for q in row.quantisation}


@pytest.mark.parametrize(("weights", "opset"), [("int8", 18), ("fp8_e4m3fn", 19), ("int4", 21), ("e2m1", 21)])
def test_files_need_no_newer_opset_than_their_codes(weights: str, opset: int, exported: Exporter) -> None:
    assert onnx.load(exported(weights=weights, activations="float").path).opset_import[0].version == opset


def test_the_same_model_is_the_same_file(exported: Exporter, tmp_path: Path) -> None:
    model = quantised_mixer(weights="int4", group_size=16, activations="float")
    again = export_onnx(model, CONVENTION, tmp_path, "model", Export(batch=3))
    assert again.row.sha256 == exported(weights="int4", group_size=16, activations="float").row.sha256


def test_what_no_file_can_be_made_of_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="simulated"):
        export_onnx(quantised_mixer(weights="e3m2", activations="e4m3"), CONVENTION, tmp_path, "model", Export())
    model = quantised_mixer(weights="int4", activations="float")
    with pytest.raises(FormatError, match="TensorRT"):
        export(model, "tensorrt", "tensorrt", tmp_path, "model", Export())
