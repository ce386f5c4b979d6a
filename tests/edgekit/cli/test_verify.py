import hashlib
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from edgekit.cli.verify import verify
from edgekit.release.bundle import write_bundle
from edgekit.release.parity import Expected, ParitySamples, Tolerance

WEIGHT = np.array([[1.0, -2.0], [0.5, 3.0], [-1.5, 0.25]], np.float32)


@pytest.fixture
def bundle(tmp_path, draft_of):
    """A bundle with one artifact that runs: y = x W, whose answers are computed here by numpy."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    node = helper.make_node("MatMul", ["x", "w"], ["logits"])
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "g",
        [value("x", 1, [1, 3])],
        [value("logits", 1, [1, 2])],
        [onnx.numpy_helper.from_array(WEIGHT, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    source = tmp_path / "exported" / "float.onnx"
    draft = draft_of()
    source.write_bytes(model.SerializeToString())
    row = draft.artifacts[1].model_copy(
        update={
            "path": "model.onnx",
            "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
            "size_bytes": source.stat().st_size,
        }
    )

    def make(shift=0.0):
        x = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)
        expected = {"model.onnx": Expected({"logits": x @ WEIGHT + np.float32(shift)}, Tolerance(output=1e-5))}
        samples = ParitySamples({"x": x}, {"x": "NC"}, expected)
        return write_bundle(
            tmp_path / "dist", "a", replace(draft, artifacts=(row,), files={"model.onnx": source}, samples=samples)
        )

    return make


def test_a_right_bundle_is_verified(bundle):
    result = CliRunner().invoke(verify, [str(bundle())])
    assert result.exit_code == 0
    assert "VERIFIED" in result.output
    assert "add --parity" in result.output


def test_an_altered_bundle_exits_with_1_and_names_the_file(bundle):
    place = bundle()
    (place / "evidence" / "log").write_text("nothing happened")
    result = CliRunner().invoke(verify, [str(place)])
    assert result.exit_code == 1
    assert "NOT VERIFIED" in result.output
    assert "evidence/log" in result.output
    document = json.loads(CliRunner().invoke(verify, [str(place), "--json"]).output)
    assert not document["ok"]
    assert [(row["kind"], row["path"]) for row in document["problems"]] == [("altered", "evidence/log")]


def test_parity_runs_the_artifact_here(bundle):
    pytest.importorskip("onnxruntime")
    result = CliRunner().invoke(verify, [str(bundle()), "--parity", "--json"])
    document = json.loads(result.output)
    assert result.exit_code == 0
    (check,) = document["parity"]
    assert check["passed"]
    assert check["samples"] == 16
    assert check["runtime"].startswith("onnxruntime ")
    wrong = CliRunner().invoke(verify, [str(bundle(shift=1e-3)), "--parity"])
    assert wrong.exit_code == 1
    assert "FAILED" in wrong.output


def test_verify_imports_no_torch_and_nothing_that_runs_the_users_code(bundle):
    code = (
        "import sys; from click.testing import CliRunner; from edgekit.cli.verify import verify;"
        f"result = CliRunner().invoke(verify, [{str(bundle())!r}, '--parity']); print(result.output);"
        "assert result.exit_code == 0; print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'torch', 'onnx', 'accelerate', 'sklearn'}), 'edgekit.nets.load' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] False"
