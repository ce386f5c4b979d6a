"""Weights as codes in TFLite: what LiteRT gives for them, against PyTorch with the weights that the codes mean."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch

pytest.importorskip("litert_torch", reason="litert-torch is not installed")

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgekit.errors import FormatError
from edgekit.formats.artifact import Artifact
from edgekit.formats.tflite.convert import quiet
from edgekit.formats.tflite.export import export_tflite
from edgekit.formats.tflite.graph import OP_NAMES, Graph
from edgekit.schema.recipe import Export
from tests import nets
from tests.edgekit.formats.mixers import CHANNELS, WEIGHTS, dequantised, plain_mixer, quantised_mixer
from tests.edgekit.formats.quantised import quantised

Exporter: TypeAlias = Callable[..., Artifact]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    """Exports of the mixer at batch 3, each made once."""

    @functools.cache
    def make(**options: object) -> Artifact:
        model = quantised_mixer(**options) if options else plain_mixer()
        return export_tflite(model, "litert", tmp_path_factory.mktemp("tflite"), "model", Export(batch=3))

    return make


def _inputs() -> torch.Tensor:
    (x,) = plain_mixer().example(3, seed=5)
    return x


def _run(content: bytes, x: torch.Tensor, *, delegate: bool = True) -> np.ndarray:
    resolver = OpResolverType.AUTO if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    with quiet():
        interpreter = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=resolver)
        interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x.permute(0, 2, 3, 1).contiguous().numpy())
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def _graph(artifact: Artifact) -> Graph:
    return Graph(schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(artifact.path.read_bytes(), 0)))


def _weighted(graph: Graph) -> list[Any]:
    kinds = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    return [op for op in graph.sub.operators if OP_NAMES[graph.kind(op)] in kinds]


@pytest.mark.parametrize("weights", ["int8", "int4", "fp16"])
@pytest.mark.parametrize("delegate", [True, False])
def test_float_kernels_compute_with_the_weights_that_the_codes_mean(
    weights: str, delegate: bool, exported: Exporter
) -> None:
    artifact = exported(weights=weights, activations="float")
    x = _inputs()
    expected = dequantised(quantised_mixer(weights=weights, activations="float"))(x).detach().numpy()
    for given in (_run(artifact.path.read_bytes(), x, delegate=delegate), artifact.program(x)[0].numpy()):
        # float32 sums in another order
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert artifact.row.precision == f"{weights}-weights"
    assert artifact.row.fused["DEQUANTIZE"] == 5
    assert {one.node for one in artifact.row.in_float} == {row.tensor for row in artifact.row.quantisation}


@pytest.mark.parametrize(
    "options", [{"weights": "int8"}, {"weights": "int4"}, {"weights": "int4", "group_size": 32}], ids=str
)
def test_hybrid_kernels_round_their_inputs_as_the_program_does(options: dict[str, object], exported: Exporter) -> None:
    artifact = exported(**options, activations="dynamic")
    x = _inputs()
    given, expected = _run(artifact.path.read_bytes(), x), artifact.program(x)[0].numpy()
    plain = dequantised(quantised_mixer(**options, activations="dynamic"))(x).detach().numpy()
    rounded = np.abs(expected - plain).max()  # what the rounding of inputs costs
    assert rounded > 3e-4 * np.abs(expected).max()
    assert np.median(np.abs(given - expected)) < 0.01 * rounded
    assert np.abs(given - expected).max() < rounded  # a code or two fall on the other side of the middle
    assert artifact.row.precision == f"{options['weights']}-dynamic"
    assert "DEQUANTIZE" not in artifact.row.fused


def test_a_1x1_convolution_has_a_grid_for_every_pixel(tmp_path: Path) -> None:
    model = quantised(nets.TINY_CONV, weights="int8", activations="dynamic")
    artifact = export_tflite(model, "litert", tmp_path, "model", Export(batch=3))
    (x,) = model.example(3, seed=5)
    np.testing.assert_allclose(
        _run(artifact.path.read_bytes(), x), artifact.program(x)[0].numpy(), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("options", "types", "sizes"),
    [
        ({"weights": "int8", "activations": "float"}, "INT8 INT8 INT8 INT8 INT8", [320, 360, 2560, 2560, 200]),
        ({"weights": "fp16", "activations": "float"}, "FLOAT16 " * 5, [640, 720, 5120, 5120, 400]),
        # 4-bit depthwise weights take a byte each: LiteRT has no other kernel for them
        ({"weights": "int4", "activations": "dynamic"}, "INT4 INT8 INT4 INT4 INT4", [160, 360, 1280, 1280, 100]),
        (
            {"weights": "int4", "activations": "dynamic", "group_size": 32},
            "FLOAT32 FLOAT32 FLOAT32 INT4 FLOAT32",
            [1280, 1440, 10240, 1280, 800],
        ),
    ],
    ids=str,
)
def test_what_is_stored(options: dict[str, object], types: str, sizes: list[int], exported: Exporter) -> None:
    artifact = exported(**options)
    graph = _graph(artifact)
    makers = {
        int(op.outputs[0]): int(op.inputs[0]) for op in graph.sub.operators if OP_NAMES[graph.kind(op)] == "DEQUANTIZE"
    }
    tensors = [graph.sub.tensors[makers.get(int(op.inputs[1]), int(op.inputs[1]))] for op in _weighted(graph)]
    names = {value: name for name, value in vars(schema.TensorType).items()}
    assert [names[t.type] for t in tensors] == types.split()
    assert [len(graph.model.buffers[t.buffer].data) for t in tensors] == sizes
    stored = sum(len(b.data) for b in graph.model.buffers if b.data is not None)
    assert stored < sum(sizes) + 4 * CHANNELS + 2000  # no float weight is left beside its codes


def test_files_shrink(exported: Exporter) -> None:
    plain = exported().row.size_bytes
    assert exported(weights="int8", activations="dynamic").row.size_bytes < plain - 2.4 * WEIGHTS
    assert exported(weights="int4", activations="dynamic").row.size_bytes < plain - 2.8 * WEIGHTS
    assert exported(weights="fp16", activations="float").row.size_bytes < plain - 1.6 * WEIGHTS


def test_codes_and_scales_by_hand(exported: Exporter) -> None:
    model = quantised_mixer(weights="int4", activations="dynamic")
    assert model.table is not None
    graph = _graph(exported(weights="int4", activations="dynamic"))
    convolution, depthwise, *_, classes = _weighted(graph)
    tensor = graph.sub.tensors[int(classes.inputs[1])]
    weight = model.table.weights["classes.weight"]
    first = int(graph.model.buffers[tensor.buffer].data[0])
    assert first & 15 == int(weight.codes[0, 0]) & 15
    assert first >> 4 == int(weight.codes[0, 1]) & 15
    assert list(tensor.quantization.scale) == weight.scale.tolist()
    assert (tensor.quantization.quantizedDimension, list(tensor.shape)) == (0, [5, 40])
    tensor = graph.sub.tensors[int(depthwise.inputs[1])]
    codes = np.frombuffer(bytes(graph.model.buffers[tensor.buffer].data), np.int8).reshape(1, 3, 3, 40)
    np.testing.assert_array_equal(codes[0, 1, 2], model.table.weights["depthwise.weight"].codes[:, 0, 1, 2].numpy())
    assert tensor.quantization.quantizedDimension == 3
    assert graph.sub.tensors[int(convolution.inputs[1])].quantization.quantizedDimension == 0


def test_blocks_have_scales_of_float16_that_the_program_uses(exported: Exporter) -> None:
    model = quantised_mixer(weights="int4", group_size=32, activations="dynamic")
    assert model.table is not None
    artifact = exported(weights="int4", group_size=32, activations="dynamic")
    graph = _graph(artifact)
    tensor = graph.sub.tensors[int(_weighted(graph)[3].inputs[1])]
    details = tensor.quantization.details
    assert (tensor.quantization.detailsType, details.blockSize) == (
        schema.QuantizationDetails.BlockwiseQuantization,
        32,
    )
    scales = graph.sub.tensors[details.scales]
    stored = np.frombuffer(bytes(graph.model.buffers[scales.buffer].data), np.float16).reshape(40, 2)
    expected = model.table.weights["down.weight"].scale.bfloat16()  # what XNNPACK makes of them
    np.testing.assert_array_equal(stored, expected.half().numpy())
    assert {one.node for one in artifact.row.in_float} == {
        "patches.weight",
        "depthwise.weight",
        "up.weight",
        "classes.weight",
    }
    assert all("groups of 32" in one.reason for one in artifact.row.in_float)


def test_half_precision_is_allowed_by_the_metadata(exported: Exporter) -> None:
    artifact = exported(weights="fp16", activations="fp16")
    graph = _graph(artifact)
    entries = {bytes(e.name): bytes(graph.model.buffers[e.buffer].data) for e in graph.model.metadata}
    assert entries[b"reduced_precision_support"] == b"fp16accfp16"
    assert artifact.row.precision == "fp16"
    x = _inputs()
    expected = artifact.program(x)[0].numpy()
    assert np.abs(_run(artifact.path.read_bytes(), x) - expected).max() < 2**-8 * np.abs(expected).max()
    assert b"reduced_precision_support" not in exported(weights="fp16", activations="float").path.read_bytes()


def test_outside_witness_ai_edge_quantizers_recipes(exported: Exporter) -> None:
    quantizer = pytest.importorskip("ai_edge_quantizer.quantizer", reason="ai-edge-quantizer is not installed")
    from ai_edge_quantizer import recipe

    x = _inputs()
    real = plain_mixer().network(x).detach().numpy()
    for name, weights in (("dynamic_wi8_afp32", "int8"), ("dynamic_wi4_afp32", "int4")):
        with quiet():
            peer = quantizer.Quantizer(str(exported().path))
            peer.load_quantization_recipe(getattr(recipe, name)())
            theirs = bytes(peer.quantize().quantized_model)
        ours = exported(weights=weights, activations="dynamic")
        errors = [float(((_run(file, x) - real) ** 2).mean()) for file in (ours.path.read_bytes(), theirs)]
        assert errors[0] <= 1.25 * errors[1]
        assert ours.row.size_bytes <= len(theirs)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": "bf16", "activations": "float"}, "bf16"),
        ({"weights": "e3m2", "activations": "float"}, "e3m2"),
        ({"weights": "fp8_e5m2", "activations": "float"}, "fp8_e5m2"),
        ({"weights": "int4", "activations": "float", "group_size": 32}, "groups"),
        ({"weights": "e3m2", "activations": "e3m2"}, "e3m2"),
    ],
    ids=str,
)
def test_weights_that_tflite_does_not_have_are_refused(options: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=said):
        export_tflite(quantised_mixer(**options), "litert", tmp_path, "model", Export())
