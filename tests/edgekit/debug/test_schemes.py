"""Schemes without integer activations: what their codes explain is what their layers err, in both formats."""

from pathlib import Path

import pytest

from edgekit.debug.compare import DebugSamples, compare
from edgekit.debug.network import NetworkSide
from edgekit.debug.onnx_side import OnnxSide
from edgekit.debug.sources import ArtifactFile
from edgekit.debug.tflite_side import TfliteSide
from edgekit.formats.table import export
from edgekit.schema.recipe import Export
from tests.edgekit.formats.mixers import plain_mixer, quantised_mixer


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("onnx", {"weights": "int4", "activations": "float", "group_size": 16}),
        ("onnx", {"weights": "e2m1", "activations": "float"}),
        ("onnx", {"weights": "int8", "activations": "dynamic"}),
        ("onnx", {"weights": "fp16", "activations": "fp16"}),
        ("tflite", {"weights": "int4", "activations": "dynamic", "group_size": 32}),
        ("tflite", {"weights": "fp16", "activations": "float"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_a_sound_artifact_is_within_bounds(form, options, tmp_path: Path):
    model = plain_mixer()
    convention = "onnxruntime-x86-vnni" if form == "onnx" else "litert"
    artifact = export(quantised_mixer(**options), form, convention, tmp_path, "model", Export(batch=3))
    side = OnnxSide(artifact.path, "file") if form == "onnx" else TfliteSide(artifact.path, "file")
    samples = DebugSamples({"image": model.example(39, seed=3)[0].numpy()}, "samples")
    declared = ArtifactFile(artifact.path, artifact.row).declared
    found = compare(NetworkSide(model, "network", 3), side, samples, declared=declared)
    assert found.passed, found.first_bad
    rows = {row.layer: row for row in found.layers}
    linear = rows["up/linear"]
    if options["activations"] != "fp16":  # whose arithmetic is the runtime's choice
        assert -3 < linear.own_snr_db - linear.explained_snr_db < 8
    if form == "tflite":  # which writes it as eleven operators; what reads them is judged with them
        assert found.reference_only == ("norm/layer_norm",)


def test_float_weights_on_a_grid_that_only_the_manifest_knows(tmp_path: Path):
    """LiteRT has no kernel for groups of a convolution, so their rounded weights stand in the file as float32."""
    model = plain_mixer()
    coded = quantised_mixer(weights="int4", activations="dynamic", group_size=32)
    artifact = export(coded, "tflite", "litert", tmp_path, "model", Export(batch=3))
    side = TfliteSide(artifact.path, "file")
    samples = DebugSamples({"image": model.example(12, seed=3)[0].numpy()}, "samples")
    file = ArtifactFile(artifact.path, artifact.row)
    assert file.declared["patches.weight"] == (4, 32)
    alone = compare(NetworkSide(model, "network", 3), side, samples)
    assert alone.first_bad.layer == "patches/conv2d"
    assert alone.first_bad.reason.startswith("its weights are not the reference's")
    assert compare(NetworkSide(model, "network", 3), side, samples, declared=file.declared).passed
