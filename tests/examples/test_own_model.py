"""The example of a user's own network and data, as its README says to run it."""

import json
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgekit.cli.main import cli

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_model"


@pytest.fixture
def workplace(workplace):
    pytest.importorskip("sklearn", reason="make_data.py takes scikit-learn's digits")
    return workplace


def test_a_network_and_data_of_ones_own_become_a_bundle(workplace):
    pytest.importorskip("onnxruntime", reason="runs the ONNX artifact")
    runpy.run_path("make_data.py", run_name="__main__")
    result = CliRunner().invoke(cli, ["build", "--target", "cpu", "--set", "export.formats=[onnx]", "--json"])
    assert result.exit_code == 0, result.output
    manifest = json.loads(result.stdout)["manifest"]
    assert manifest["recipe"]["name"] == "own-model"
    assert manifest["metrics"]["samples"] == 1797 // 5
    gates = {row["name"]: row["state"] for row in manifest["gates"]}
    assert gates["float_metric"] == gates["metric_drop"] == gates["parity_code_error"] == "passed"
    # 144 + 2 * 2304 convolution weights with their 16 biases each, then 16 * 10 + 10
    assert manifest["steps"][-1]["after"]["params"] == 144 + 2 * 2304 + 3 * 16 + 170
    assert CliRunner().invoke(cli, ["verify", "dist/own-model-cpu-x86-64"]).exit_code == 0


def test_data_that_were_not_made_are_missed_by_name(workplace):
    result = CliRunner().invoke(cli, ["build", "--target", "cpu", "--json"])
    assert result.exit_code == 1
    error = json.loads(result.stdout)["error"]
    assert (error["what"], error["where"]) == ("there is no such file", "handwriting.npz")
