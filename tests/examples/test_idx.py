"""Any images in IDX files, by a recipe alone: as the example's README says, on the files that its script writes."""

import json
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgekit.cli.main import cli

EXAMPLE = Path(__file__).parents[2] / "examples" / "idx"


@pytest.fixture
def workplace(workplace, monkeypatch):
    pytest.importorskip("sklearn", reason="make_data.py takes scikit-learn's digits")
    monkeypatch.delenv("IDX_FOLDER", raising=False)
    runpy.run_path("make_data.py", run_name="__main__")
    return workplace


def run(command, *words):
    result = CliRunner().invoke(cli, [command, "--target", "cpu", "--set", "export.formats=[onnx]", "--json", *words])
    return result, json.loads(result.stdout)


def test_idx_files_are_trained_merged_and_quantised_by_a_recipe_alone(workplace):
    pytest.importorskip("onnxruntime", reason="runs the ONNX artifact")
    # a smaller network and a shorter training than the example's, which is for sixty thousand images
    training = "steps.0.train={epochs: 4, batch_size: 32}"
    small = ["--set", "model.arguments.widths=[8, 16, 32]", "--set", training]
    result, document = run("build", *small)
    assert result.exit_code == 0, result.output
    manifest = document["manifest"]
    assert [step["name"] for step in manifest["steps"]] == ["load", "train", "reparam", "quantize"]
    assert manifest["metrics"]["samples"] == 359
    assert manifest["metrics"]["float"]["top1"] > 0.9
    gates = {row["name"]: row["state"] for row in manifest["gates"]}
    assert gates["metric_drop"] == gates["parity_code_error"] == "passed"
    assert manifest["inputs"][0]["preprocess"]["factor"] == pytest.approx(1 / 255)
    # the same command would take every step from the store, and after a change of the data none
    assert all(step["cached"] for step in run("plan", *small)[1]["steps"])
    path = workplace / "data" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-4])
    assert not any(step["cached"] for step in run("plan", *small)[1]["steps"])
    result, document = run("build", *small)
    assert result.exit_code == 1
    assert document["error"]["where"].endswith("train-labels-idx1-ubyte.gz")
