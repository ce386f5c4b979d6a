"""`edgekit init`, and a build of what it wrote."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from edgekit.cli.main import cli

NET = '''
"""A network of one convolution."""
from torch import nn


def make(width, classes=2):
    features = nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*features, nn.Linear(width * 16, classes))


def line():
    return nn.Linear(5, 1)


def samples():
    import numpy as np

    draw = np.random.default_rng(0)
    made = {}
    for name in ("train", "calibration", "selection", "test"):
        inputs = draw.normal(size=(24, 1, 6, 6)).astype(np.float32)
        made[name] = inputs, (inputs.mean((1, 2, 3)) > 0).astype(np.int64)
    return made


print("a module that prints")
'''


@pytest.fixture
def folder(edgekit, tmp_path, monkeypatch):
    """edge_net.py and data.npz: 60 small images, brighter at the top or at the bottom."""
    pytest.importorskip("torch", reason="looks at a network")
    monkeypatch.delenv("EDGEKIT_HOME", raising=False)
    (tmp_path / "edge_net.py").write_text(NET)
    draw = np.random.default_rng(1)
    labels = draw.integers(0, 2, 60)
    images = draw.integers(0, 90, (60, 6, 6, 1))
    images[labels == 0, :3] += 110
    images[labels == 1, 3:] += 110
    np.savez("data.npz", x=images.astype(np.uint8), y=labels)
    yield tmp_path
    sys.modules.pop("edge_net", None)


WORDS = ("init", "--model", "edge_net:make", "--argument", "width=4", "--data", "data.npz", "--name", "edge")


def test_what_it_writes_builds_as_it_is(edgekit, folder):
    pytest.importorskip("onnxruntime", reason="builds and runs an ONNX artifact")
    result = edgekit(*WORDS, "--target", "cpu-x86-64", "--yes")
    assert result.exit_code == 0, result.output
    text = (folder / "edgekit.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=.edgekit/schema/recipe.json\n")
    recipe = yaml.safe_load(text)
    assert recipe["model"] == {
        "factory": "edge_net:make",
        "arguments": {"width": 4},
        "inputs": [{"name": "image", "shape": [1, 1, 6, 6]}],
    }
    assert "it may be given classes" in text
    assert [step if isinstance(step, str) else next(iter(step)) for step in recipe["steps"]] == [
        "train",
        "reparam",
        "quantize",
    ]
    data = yaml.safe_load((folder / "calib" / "edge.yaml").read_text())
    assert data["preprocess"] == {"raw_dtype": "uint8", "raw_layout": "NHWC", "factor": pytest.approx(1 / 255)}
    schema = json.loads((folder / ".edgekit" / "schema" / "recipe.json").read_text())
    assert "steps" in schema["properties"]

    fewer = ("--set", "export.formats=[onnx]", "--set", "steps.0.train.epochs=20")
    built = edgekit("build", "--target", "cpu-x86-64", *fewer, "--json")
    assert built.exit_code == 0, built.output
    assert "a module that prints" in built.stderr  # and not in the one document
    manifest = json.loads(built.stdout)["manifest"]
    assert manifest["metrics"]["float"]["top1"] > 0.8
    assert manifest["recipe"]["name"] == "edge"


def test_trained_weights_are_found_in_their_file_and_not_trained_again(edgekit, folder):
    import torch

    from edgekit.schema.reference import import_function

    network = import_function("edge_net:make", "here", ValueError)(4)
    weights = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": weights, "epoch": 3}, "w.pth")
    result = edgekit(*WORDS, "--checkpoint", "w.pth", "--yes")
    assert result.exit_code == 0, result.output
    recipe = yaml.safe_load((folder / "edgekit.yaml").read_text())
    assert recipe["model"]["checkpoint"] == {"path": "w.pth", "key": "state_dict", "strip_prefix": "module."}
    assert recipe["steps"] == ["reparam", "quantize"]


def test_data_of_a_function_need_no_calibration_set(edgekit_json, folder):
    words = ("init", "--model", "edge_net:make", "--argument", "width=4", "--data", "edge_net:samples")
    code, document = edgekit_json(*words, "--target", "cpu-x86-64")
    assert (code, document["files"]) == (0, ["edgekit.yaml"])
    assert document["next"] == "edgekit build --target cpu-x86-64"
    assert yaml.safe_load((folder / "edgekit.yaml").read_text())["data"] == "edge_net:samples"


def test_numbers_as_labels_make_a_regression(edgekit, folder):
    draw = np.random.default_rng(0)
    np.savez(
        "lines.npz", x=draw.normal(size=(40, 5)).astype(np.float32), y=draw.normal(size=(40, 1)).astype(np.float32)
    )
    result = edgekit("init", "--model", "edge_net:line", "--data", "lines.npz", "--yes")
    assert result.exit_code == 0, result.output
    recipe = yaml.safe_load((folder / "edgekit.yaml").read_text())
    assert recipe["metric"] == "mse"
    assert recipe["steps"][0]["train"]["loss"] == "mse"
    assert recipe["model"]["inputs"] == [{"name": "input", "shape": [1, 5], "layout": "NC"}]


def test_a_network_in_a_file_is_only_quantised(edgekit, folder):
    onnx = pytest.importorskip("onnx", reason="reads an .onnx file")
    from onnx import numpy_helper

    draw = np.random.default_rng(0)
    weight = numpy_helper.from_array(draw.normal(size=(36, 2)).astype(np.float32), "w")
    shape = numpy_helper.from_array(np.array([-1, 36]), "s")
    nodes = [
        onnx.helper.make_node("Reshape", ["picture", "s"], ["flat"]),
        onnx.helper.make_node("MatMul", ["flat", "w"], ["answer"]),
    ]
    value = onnx.helper.make_tensor_value_info
    ends = [value("picture", 1, ["batch", 1, 6, 6])], [value("answer", 1, ["batch", 2])]
    graph = onnx.helper.make_graph(nodes, "g", *ends, [weight, shape])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, "net.onnx")
    result = edgekit("init", "--model", "net.onnx", "--data", "data.npz", "--target", "cpu-x86-64", "--yes")
    assert result.exit_code == 0, result.output
    recipe = yaml.safe_load((folder / "edgekit.yaml").read_text())
    assert recipe["model"] == {"onnx": "net.onnx"}
    assert recipe["steps"] == ["quantize"]


def test_images_in_a_folder_are_read_as_the_network_takes_them(edgekit, folder):
    image = pytest.importorskip("PIL.Image", reason="reads images")
    for i in range(16):
        (folder / "pictures" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        image.new("L", (9 + i, 9), 10 * i).save(folder / "pictures" / "ab"[i % 2] / f"{i}.png")
    words = ("--model", "edge_net:make", "--argument", "width=4", "--data", "pictures", "--input", "1x1x6x6")
    result = edgekit("init", *words, "--name", "pictures", "--target", "cpu-x86-64", "--yes")
    assert result.exit_code == 0, result.output
    data = yaml.safe_load((folder / "calib" / "pictures.yaml").read_text())
    assert data["arguments"] == {"path": "pictures", "resize": [6, 6], "channels": 1}
    assert data["order"] == "stratified"


def test_what_is_not_given_is_asked_for(folder):
    answers = "edge_net:make\ndata.npz\n4\nasked\ncpu-x86-64\ny\n"
    result = CliRunner().invoke(cli, ["init"], input=answers)
    assert result.exit_code == 0, result.output
    assert "takes image (1, 1, 6, 6); gives output (1, 2)" in result.output
    assert "next: edgekit build --target cpu-x86-64" in result.output
    assert yaml.safe_load((folder / "edgekit.yaml").read_text())["model"]["arguments"] == {"width": 4}
    assert (folder / "calib" / "asked.yaml").is_file()


def test_a_no_writes_nothing(folder):
    result = CliRunner().invoke(cli, ["init"], input="edge_net:make\ndata.npz\n4\nasked\ncpu-x86-64\nn\n")
    assert result.exit_code == 1
    assert sorted(path.name for path in folder.iterdir()) == ["data.npz", "edge_net.py"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "what", "fix"),
    [
        (("--model", "edge_net:make", "--data", "data.npz"), "the factory needs width", "--argument width=VALUE"),
        (("--model", "edge_net:mak", "--data", "data.npz"), "no function 'mak'", "did you mean 'make'?"),
        (
            ("--model", "edge_net:line", "--data", "data.npz"),
            "do not fit the network, tried as (1, 1, 6, 6)",
            "--input",
        ),
        (("--model", "edge_net:line", "--data", "data.npz", "--input", "1x3x6x6"), "cannot become 1x3x6x6", "--input"),
        (("--model", "absent.onnx", "--data", "data.npz"), "no such file", "name an .onnx or .pt2 file"),
        (("--model", "edge_net:line", "--data", "absent.npz"), "no such file", "name a file"),
        (("--model", "edge_net:line", "--data", "data.npz", "--part", "train=a"), "'a' is not INPUTS,LABELS", "--part"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(edgekit_json, words, what, fix):
    code, document = edgekit_json("init", *words)
    assert code == 1
    assert what in document["error"]["what"]
    assert fix in document["error"]["fix"]
    assert not Path("edgekit.yaml").exists()
    assert not Path(".edgekit").exists()


def test_a_file_that_is_there_stays(edgekit, edgekit_json, folder):
    (folder / "edgekit.yaml").write_text("mine")
    code, document = edgekit_json(*WORDS)
    assert (code, document["error"]["where"]) == (1, "edgekit.yaml")
    assert (folder / "edgekit.yaml").read_text() == "mine"


def test_without_questions_model_and_data_must_be_given(edgekit):
    result = edgekit("init", "--yes")
    assert result.exit_code == 2
    assert "--model and --data" in result.stderr


def test_a_recipe_of_the_gallery_is_extended(edgekit, tmp_path):
    result = edgekit("init", "--from", "quickstart", "--target", "jetson", "--name", "mine")
    assert result.exit_code == 0, result.output
    assert "next: edgekit build --target jetson" in result.output
    assert yaml.safe_load((tmp_path / "edgekit.yaml").read_text()) == {"extends": "quickstart", "name": "mine"}
