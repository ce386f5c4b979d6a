"""The example of regression, as its recipe says: a drop is a rise of the error, and labels are numbers."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgekit.cli.main import cli

EXAMPLE = Path(__file__).parents[2] / "examples" / "regression"


@pytest.fixture
def workplace(workplace):
    pytest.importorskip("sklearn", reason="data.py takes scikit-learn's diabetes data")
    pytest.importorskip("onnxruntime", reason="runs the ONNX artifact")
    return workplace


def build(*words: str):
    return CliRunner().invoke(cli, ["build", "--target", "cpu", "--set", "export.formats=[onnx]", "--json", *words])


def test_numbers_are_learnt_and_an_int8_network_tells_nearly_the_same(workplace):
    result = build()
    assert result.exit_code == 0, result.output
    manifest = json.loads(result.stdout)["manifest"]
    assert (manifest["metrics"]["larger_is_better"], manifest["metrics"]["is_share"]) == (False, False)
    exact, found = manifest["metrics"]["float"]["mse"], manifest["metrics"]["per_artifact"]["model.onnx"]["mse"]
    assert exact < 0.55
    gates = {row["name"]: row for row in manifest["gates"]}
    assert gates["float_metric"]["state"] == gates["metric_drop"]["state"] == "passed"
    assert gates["metric_drop"]["value"] == pytest.approx((found["value"] - exact) / exact, rel=1e-4)
    learnt = next(row for row in manifest["steps"] if row["name"] == "train")
    assert learnt["after"]["metric"] < 0.8 < learnt["before"]["metric"]


def test_a_loss_that_counts_classes_names_the_one_to_use(workplace):
    result = build("--set", "steps.0.train.loss=cross_entropy")
    assert result.exit_code == 1
    error = json.loads(result.stdout)["error"]
    assert error["what"] == "labels are float32 of shape (32, 1), and cross_entropy counts classes"
    assert error["where"] == "step train, loss cross_entropy"
    assert "set `loss: mse`" in error["fix"]
    assert not (workplace / "dist").exists()
