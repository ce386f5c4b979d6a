"""The shipped recipes keep what they promise, end to end, in the runtimes of this machine. Slow: two or three minutes.

What needs the data sets skips with a reason where they are absent.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray

from edgekit.cli.main import cli
from edgekit.data.splits import find_data
from edgekit.profiling.inference import infer
from edgekit.release.bundle import read_manifest
from edgekit.schema.device import Device
from edgekit.schema.manifest import ArtifactRow, Manifest

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Built:
    """A bundle that the command line wrote."""

    exit_code: int
    bundle: Path
    manifest: Manifest

    def artifact(self, format_name: str) -> ArtifactRow:
        return next(row for row in self.manifest.artifacts if row.format == format_name)

    def top1(self, format_name: str) -> float:
        return self.manifest.metrics.per_artifact[self.artifact(format_name).path]["top1"].value


def _build(*words: str) -> Built:
    done = CliRunner().invoke(cli, ["build", *words, "--json"])
    assert done.stdout, done.output
    bundle = Path(json.loads(done.stdout)["bundle"])
    return Built(done.exit_code, bundle, read_manifest(bundle))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def with_data(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_DATA", str(data_folder.resolve()))
    return data_folder


def test_quickstart_for_a_jetson_without_one() -> None:
    built = _build("--target", "jetson")
    assert built.exit_code == 0
    assert built.manifest.verdict == "incomplete"
    float_metric = built.manifest.metrics.float["top1"]
    assert float_metric >= 0.98
    for name in ("onnx", "tflite", "tensorrt"):
        assert built.top1(name) >= float_metric - 0.005
    latency = [gate for gate in built.manifest.gates if gate.name == "latency_p50_ms"]
    assert {(gate.state, gate.reason) for gate in latency} == {("not evaluated", "no device")}
    assert built.artifact("tensorrt").engine == "deferred"
    assert built.manifest.metrics.per_artifact["model.tensorrt.onnx"]["top1"].stand_in
    assert [row.name for row in built.manifest.steps if row.model == "model"] == [
        "load",
        "train",
        "prune",
        "distill",
        "reparam",
        "quantize",
    ]
    again = _build("--target", "jetson")
    assert all(step.cached for step in again.manifest.steps)
    assert again.manifest.content_digest == built.manifest.content_digest


def test_resnet20_keeps_its_accuracy_in_a_third_of_the_size(with_data: Path) -> None:
    built = _build("resnet20-cifar10", "--target", "raspberry-pi-5")
    assert built.manifest.metrics.float["top1"] == 0.9173  # as published
    assert built.manifest.metrics.samples == 10_000
    assert built.top1("onnx") >= 0.917
    assert built.top1("tflite") >= 0.915
    for name in ("onnx", "tflite"):
        assert built.artifact(name).size_bytes <= 330_000
        assert built.artifact(name).in_float == ()
    assert built.artifact("onnx").fused["QLinearConv"] == 21  # 19 and the two shortcuts
    assert built.artifact("tflite").fused["DELEGATE"] == 1
    assert all(row.passed for row in built.manifest.parity)


@pytest.mark.parametrize(
    ("recipe", "metric", "least"), [("detector-digits", "map50_95", 0.7), ("anomaly-digits", "auc", 0.95)]
)
def test_other_tasks_lose_no_point_in_int8(recipe: str, metric: str, least: float) -> None:
    built = _build(recipe, "--target", "raspberry-pi-5")
    exact = built.manifest.metrics.float[metric]
    assert exact > least
    for name in ("onnx", "tflite"):
        found = built.manifest.metrics.per_artifact[built.artifact(name).path][metric].value
        assert abs(found - exact) < 0.01
    assert all(row.passed for row in built.manifest.parity)


def _correct(row: ArtifactRow, path: Path, data: str, name: str) -> NDArray[np.bool_]:
    test = find_data(data).test
    given = infer(Device(name="local", target=""), path, row, "litert", {name: test.inputs[0].numpy()}, {name: "NCHW"})
    return np.asarray(given.outputs["output"].argmax(1) == test.labels.numpy())


def _published(
    path: Path, samples: torch.Tensor, labels: torch.Tensor, scale: float, zero_point: int
) -> NDArray[np.bool_]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    codes = np.clip(np.rint(samples.numpy() / np.float32(scale)) + zero_point, -128, 127).astype(np.int8)
    answers = []
    for sample in codes.transpose(0, 2, 3, 1):
        interpreter.set_tensor(given["index"], sample.reshape(given["shape"]))
        interpreter.invoke()
        answers.append(int(interpreter.get_tensor(made["index"]).argmax()))
    return np.asarray(np.array(answers) == labels.numpy())


@pytest.mark.parametrize(
    ("recipe", "data", "weights", "name", "scale", "zero_point"),
    [
        # their inputs: pixel - 128; features of scale 0.5847029 and zero point 83
        ("resnet8-mlperf", "cifar10-pixels", "mlperf_ic_resnet8_int8.tflite", "image", 1.0, -128),
        ("ds-cnn-mlperf", "speech-commands", "mlperf_kws_dscnn_int8.tflite", "mfcc", 0.5847029089927673, 83),
    ],
)
def test_mlperf_tiny_is_no_worse_and_no_larger_than_the_published_files(
    recipe: str, data: str, weights: str, name: str, scale: float, zero_point: int, with_data: Path
) -> None:
    built = _build(recipe, "--target", "raspberry-pi-4")
    row = built.artifact("tflite")
    published = with_data / "weights" / weights
    assert row.size_bytes <= published.stat().st_size
    test = find_data(data).test
    ours = _correct(row, built.bundle / row.path, data, name).astype(float)
    theirs = _published(published, test.inputs[0], test.labels, scale, zero_point).astype(float)
    assert theirs.mean() > 0.85  # the peer was fed as it wants to be
    difference = ours - theirs
    upper = difference.mean() + 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))
    assert upper >= 0, f"ours {ours.mean():.4f}, theirs {theirs.mean():.4f}"


def test_mobilenet_keeps_its_accuracy_in_both_formats(with_data: Path) -> None:
    built = _build("mobilenet-v1-imagenet", "--target", "cpu-arm64")
    float_metric = built.manifest.metrics.float["top1"]
    for name in ("onnx", "tflite"):
        # 400 images of which about one in ten changes its answer: the standard error of the difference is 1.6 points
        assert built.top1(name) >= float_metric - 0.05
