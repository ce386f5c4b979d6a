"""The example of a recurrent network of one's own, exported as one step."""

import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from edgekit.cli.main import cli

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_state"


@pytest.fixture
def workplace(workplace):
    pytest.importorskip("sklearn", reason="data.py takes scikit-learn's digits")
    pytest.importorskip("onnxruntime", reason="runs the ONNX artifact")
    return workplace


def test_a_state_of_ones_own_goes_in_and_comes_out_of_an_int8_step(workplace):
    changes = ("export.formats=[onnx]", "steps.0.train.epochs=6", "gates.float_metric.at_least=0.8")
    words = [word for change in changes for word in ("--set", change)]
    result = CliRunner().invoke(cli, ["build", "--target", "cpu", *words, "--json"])
    assert result.exit_code == 0, result.output
    manifest = json.loads(result.stdout)["manifest"]
    (artifact,) = manifest["artifacts"]
    assert [tensor["network_name"] for tensor in artifact["inputs"]] == ["rows", "memory"]
    assert [tensor["network_name"] for tensor in artifact["outputs"]] == ["output", "next_memory"]
    assert artifact["inputs"][0]["shape"] == [1, 8]
    graph = onnx.load(workplace / "dist/own-state-cpu-x86-64/model.onnx").graph
    assert len([node for node in graph.node if node.op_type == "Sigmoid"]) == 1  # one step, not eight
    exact, found = manifest["metrics"]["float"]["top1"], manifest["metrics"]["per_artifact"]["model.onnx"]["top1"]
    assert exact > 0.8
    assert abs(found["value"] - exact) < 0.02
    assert all(row["passed"] for row in manifest["parity"])
