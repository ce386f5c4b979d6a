"""Networks that come as .onnx files go through a build like any other."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from edgekit.cli.main import cli
from edgekit.data.samples import Splits
from edgekit.data.splits import find_data
from edgekit.formats.onnx.export import export_onnx
from edgekit.nets.load import build
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.load import load_recipe
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import Export, ModelSource
from tests.edgekit.formats.quantised import context
from tests.edgekit.nets.from_onnx.graphs import network_file


@pytest.fixture(scope="module")
def _environment(data_folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_DATA", str(data_folder))
        yield


@pytest.fixture(scope="module")
def cifar10(_environment):
    return find_data("cifar10")


def test_resnet20_comes_back_from_onnx_and_is_as_good_in_int8(cifar10, tmp_path):
    direct = build(load_recipe("resnet20-cifar10").recipe.model)
    export_onnx(direct, "onnxruntime-x86-vnni", tmp_path, "float", Export())
    back = build(ModelSource(onnx=str(tmp_path / "float.onnx")))

    (images,) = cifar10.test.inputs
    with torch.no_grad():
        found, wanted = (model.network(images[:64]) for model in (back, direct))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)

    few = Splits(None, cifar10.splits.calibration.head(32), None, "digest")
    right = {}
    for name, model in (("direct", direct), ("back", back)):
        made = quantize(model, QuantizeOptions(bias_correction="none"), replace(context(model), splits=few))
        artifact = export_onnx(made, "onnxruntime-x86-vnni", tmp_path, name, Export(batch=100))
        assert artifact.row.in_float == ()
        session = onnxruntime.InferenceSession(tmp_path / f"{name}.onnx", providers=["CPUExecutionProvider"])
        answers = [session.run(None, {"image": images[i : i + 100].numpy()})[0] for i in range(0, 2000, 100)]
        right[name] = (np.concatenate(answers).argmax(1) == cifar10.test.labels[:2000].numpy()).mean()
    assert right["direct"] > 0.90
    assert abs(right["back"] - right["direct"]) <= 0.001


@pytest.fixture
def net_file(workplace):
    return network_file(workplace / "My Net_v2.onnx", shape=(1, 4, 4), out=2)


def run(*words):
    result = CliRunner().invoke(cli, [*words, "--target", "cpu-x86-64", "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


DATA = ("--set", "data=own_code:samples", "--set", "metric=own_code:share_right", "--set", "export.formats=[onnx]")


def test_a_bare_file_is_merged_and_quantised(net_file, workplace):
    manifest = run("build", net_file.name, *DATA)["manifest"]
    assert manifest["recipe"]["name"] == "my-net-v2"
    assert [step["name"] for step in manifest["steps"]] == ["load", "reparam", "quantize"]
    assert manifest["artifacts"][0]["precision"] == "int8"
    assert manifest["inputs"][0]["shape"] == [1, 1, 4, 4]
    assert manifest["overrides"] == []

    planned = run("plan", net_file.name, *DATA)
    assert all(step["cached"] for step in planned["steps"])


def test_a_file_that_changes_is_built_anew_and_one_that_moves_is_not(net_file, workplace):
    run("build", net_file.name, *DATA)
    elsewhere = workplace / "elsewhere"
    elsewhere.mkdir()
    shutil.move(net_file, elsewhere / net_file.name)
    moved = run("plan", f"elsewhere/{net_file.name}", *DATA)
    assert all(step["cached"] for step in moved["steps"])

    content = (elsewhere / net_file.name).read_bytes()
    (elsewhere / net_file.name).write_bytes(content + b"\x12\x01x")  # the producer's name: the same network
    changed = run("plan", f"elsewhere/{net_file.name}", *DATA)
    assert not any(step["cached"] for step in changed["steps"])
