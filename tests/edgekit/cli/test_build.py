"""`edgekit build` end to end: the user's own network, data and metric, to ONNX, run in ONNX Runtime."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.edgekit.pipeline.conftest import MODULE, RECIPE

BUNDLE = Path("dist/own-cpu-x86-64")


@pytest.fixture
def build(edgekit, tmp_path):
    """Runs `edgekit build own.yaml --target cpu-x86-64 ...` on the user's own code."""
    pytest.importorskip("onnxruntime", reason="builds and runs an ONNX artifact")
    (tmp_path / "own_code.py").write_text(MODULE)
    (tmp_path / "own_scale.py").write_text("SCALE = 1.0\n")
    (tmp_path / "own.yaml").write_text(RECIPE)
    yield lambda *words: edgekit("build", "own.yaml", "--target", "cpu-x86-64", *words)
    for name in ("own_code", "own_scale"):
        sys.modules.pop(name, None)


def manifest():
    return json.loads((BUNDLE / "manifest.json").read_text())


def test_a_build_ends_with_a_bundle_that_verifies_and_a_second_one_takes_everything_from_the_store(build, edgekit):
    first = build()
    assert first.exit_code == 0, first.output
    found = manifest()
    assert found["verdict"] == "incomplete"
    assert {(row["name"], row["state"], row["reason"]) for row in found["gates"]} >= {
        ("latency_p50_ms", "not evaluated", "no device"),
        ("parity_code_error", "passed", ""),
    }
    (artifact,) = found["artifacts"]
    assert (artifact["path"], artifact["precision"], artifact["convention"]) == (
        "model.onnx",
        "int8",
        "onnxruntime-x86-vnni",
    )
    assert found["parity"][0]["max_code_error"] <= 1
    assert found["metrics"]["float"]["own_code:share_right"] > 0.7
    assert found["metrics"]["samples"] == 30
    assert [row["name"] for row in found["steps"]] == ["load", "train", "quantize"]
    assert [row["cached"] for row in found["steps"]] == [False] * 3
    # conv 36 + 4, linear 128 + 2: one byte a weight, four bytes a bias and a scale
    assert found["steps"][2]["after"]["size_bytes"] < found["steps"][1]["after"]["size_bytes"] == 680
    assert "INCOMPLETE" in first.stdout
    assert str(BUNDLE) in first.stdout
    verified = edgekit("verify", str(BUNDLE), "--parity")
    assert verified.exit_code == 0, verified.output

    second = build()
    again = manifest()
    assert [row["cached"] for row in again["steps"]] == [True] * 3
    assert again["content_digest"] == found["content_digest"]
    assert "exporting" not in second.stderr
    assert "testing" not in second.stderr


def test_a_failed_gate_is_exit_code_3_and_the_bundle_says_which(build):
    result = build("--set", "gates.size_bytes={at_most: 10}")
    assert result.exit_code == 3
    assert manifest()["verdict"] == "fail"
    assert [row["name"] for row in manifest()["gates"] if row["state"] == "failed"] == ["size_bytes"]


def test_a_required_gate_that_was_not_evaluated_is_exit_code_4_where_it_is_asked_for(build):
    assert build("--require-measured").exit_code == 4
    assert manifest()["verdict"] == "incomplete"


def test_two_builds_without_measuring_are_equal_byte_by_byte(build):
    assert build("--no-measure", "--out", "one").exit_code == 0
    shutil.rmtree(".edgekit")
    assert build("--no-measure", "--out", "two").exit_code == 0
    one, two = (Path(name) / BUNDLE.name for name in ("one", "two"))
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert [path for path in files if (one / path).read_bytes() != (two / path).read_bytes()] == []


def test_no_cache_keeps_nothing(build):
    assert build("--no-cache").exit_code == 0
    assert not Path(".edgekit").exists()


def test_a_device_that_is_not_there_is_exit_code_4_before_anything_is_run(build):
    result = build("--device", "orin")
    assert result.exit_code == 4
    assert "no device is called 'orin'" in result.stderr
    assert not Path(".edgekit").exists()


def test_json_is_one_document_with_the_manifest(build):
    result = build("--json")
    document = json.loads(result.stdout)
    assert (document["bundle"], document["exit_code"]) == (str(BUNDLE), 0)
    assert document["manifest"] == manifest()


def test_nothing_of_this_machine_or_its_user_is_in_what_is_shipped(build, tmp_path):
    build()
    for path in BUNDLE.glob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(tmp_path).encode() not in content, path
            assert str(Path.home()).encode() not in content, path
