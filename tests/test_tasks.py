"""The recipes of docs/tasks.md in small, from training to int8 artifacts that are run: seconds each, little learnt."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from edgekit.cli.main import cli
from edgekit.schema.find import shipped_folder

pytestmark = pytest.mark.filterwarnings("ignore")  # litert-torch and jax warn about themselves


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn", reason="the data come with scikit-learn")
    pytest.importorskip("onnxruntime", reason="runs the ONNX artifact")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEKIT_HOME", raising=False)


def build(recipe: str, target: str, *changes: str) -> dict:
    words = [word for change in changes for word in ("--set", change)]
    result = CliRunner().invoke(cli, ["build", recipe, "--target", target, *words, "--json"])
    assert result.exit_code in (0, 3), result.output  # 3: a gate on accuracy, which little training does not reach
    return json.loads(result.stdout)["manifest"]


def test_a_detector_is_quantised_but_for_its_decoding():
    pytest.importorskip("litert_torch", reason="writes the TFLite artifact")
    scenes = yaml.safe_load((shipped_folder() / "calib" / "pasted-digits.yaml").read_text())
    Path("calib").mkdir()
    small = scenes | {"arguments": {"train": 320, "selection": 16, "test": 48}}
    Path("calib/pasted-digits.yaml").write_text(yaml.safe_dump(small))
    changes = ("model.arguments.widths=[8, 16, 24]", "steps.0.train.epochs=6", "steps.0.train.learning_rate=0.01")
    manifest = build("detector-digits", "raspberry-pi-5", *changes)
    (step,) = manifest["postprocess"]
    assert step["nms"]["boxes"] == "boxes"
    assert {row["name"] for row in manifest["outputs"]} == {"boxes", "scores"}
    decoding = {f"decode/{name}" for name in ("mul", "mul_1", "add", "add_1", "sub", "exp", "cat", "sigmoid")}
    assert len(manifest["artifacts"]) == 2
    for artifact in manifest["artifacts"]:
        rows = {row["node"]: row["reason"] for row in artifact["in_float"]}
        named = {node for node, reason in rows.items() if reason == "kept in float: keep_float 'decode'"}
        assert named == decoding
        # what the runtime's own graph computes in float is the decoding, operator for operator, and movement behind it
        observed = [row["op"].upper() for row in artifact["in_float"] if row["node"] not in decoding]
        assert sorted(op for op in observed if op != "TRANSPOSE") == sorted(
            ["ADD", "ADD", "EXP", "MUL", "MUL", "SUB"]
            + (["CONCATENATION", "LOGISTIC"] if artifact["format"] == "tflite" else ["CONCAT", "SIGMOID"])
        )
        grids = {row["tensor"]: row for row in artifact["quantisation"]}
        assert grids["places.3/conv2d"]["tied_to"] is None
        assert grids["classes.3/conv2d"]["tied_to"] is None
        assert {tensor["dtype"] for tensor in artifact["outputs"]} == {"float32"}
    assert all(row["passed"] for row in manifest["parity"])
    exact = manifest["metrics"]["float"]["map50_95"]
    assert exact > 0.01  # a few digits are found at all
    for found in manifest["metrics"]["per_artifact"].values():
        assert abs(found["map50_95"]["value"] - exact) < 0.03


def test_an_autoencoder_tells_anomalies_by_what_it_cannot_rebuild():
    changes = ("steps.0.train.epochs=20", "export.formats=[onnx]")
    manifest = build("anomaly-digits", "cpu", *changes)
    assert manifest["postprocess"] == [{"reconstruction_error": {"input": None, "output": None}}]
    exact, found = (
        manifest["metrics"]["float"]["auc"],
        manifest["metrics"]["per_artifact"]["model.onnx"]["auc"]["value"],
    )
    assert exact > 0.85
    assert abs(found - exact) < 0.01
    assert manifest["artifacts"][0]["in_float"] == []
