import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.cli.profile import InputShape, Seconds
from edgekit.errors import DeviceError
from edgekit.store.profiles import ProfileStore

QUICK = ("--warmup", "1", "--duration", "0.05", "--iterations", "30", "--percentile", "50")


@pytest.fixture
def double(tmp_path: Path) -> Path:
    """y = x + x, its batch open."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", tensors[:1], tensors[1:])
    path = tmp_path / "double.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_a_file_is_measured_shown_written_and_kept(edgekit, double: Path, tmp_path: Path):
    result = edgekit("profile", "double.onnx", "--batch", "4", *QUICK, "--layers", "--out", "found/p.json")
    assert result.exit_code == 0, result.output
    (row,) = (line for line in result.stdout.splitlines() if line.strip().startswith("double.onnx  local"))
    assert "VALID" in row
    assert "batch 4" in result.stdout
    assert "energy: " in result.stdout
    (document,) = json.loads((tmp_path / "found/p.json").read_text())
    assert len(document["samples_ms"]) >= 30
    assert [layer["operator"] for layer in document["layers"]] == ["Add"]
    with ProfileStore(tmp_path / ".edgekit/profiles.sqlite") as store:
        assert [found.settings.batch for found in store.all()] == [4]


def test_json_is_one_document(edgekit_json, double: Path):
    code, document = edgekit_json("profile", "double.onnx", *QUICK, "--fps", "500")
    assert code == 0
    (found,) = document["profiles"]
    assert found["cadence"]["fps"] == 500.0
    assert found["settings"]["fps"] == 500.0
    assert found["energy"]["unavailable"] or found["energy"]["source"]
    assert document["skipped"] == []


def test_a_device_that_cannot_be_reached_is_exit_code_4(edgekit_json, double: Path, monkeypatch: pytest.MonkeyPatch):
    def gone(request, told):
        raise DeviceError("no reply", "device pi", "look at it")

    monkeypatch.setattr("edgekit.pipeline.profile.profile_artifacts", gone)
    code, document = edgekit_json("profile", "double.onnx", "--device", "pi")
    assert (code, document["error"]["what"]) == (4, "no reply")


def test_a_wrong_file_is_exit_code_1(edgekit_json):
    code, document = edgekit_json("profile", "absent.onnx")
    assert (code, document["error"]["what"]) == (1, "there is no such file")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("90s", 90.0), ("30m", 1800.0), ("1.5h", 5400.0), ("0", None), ("3x", None)]
)
def test_times(edgekit, text: str, seconds: float | None):
    if seconds is None:
        assert edgekit("profile", "a.onnx", "--sustained", text).exit_code == 2
    else:
        assert Seconds().convert(text, None, None) == seconds


@pytest.mark.parametrize(
    ("text", "expected"), [("x:0:1x3x8", ("x:0", [1, 3, 8])), ("x:5", ("x", [5])), ("1x3", None), ("x:1x0", None)]
)
def test_shapes(edgekit, text: str, expected: tuple[str, list[int]] | None):
    if expected is None:
        assert edgekit("profile", "a.onnx", "--input-shape", text).exit_code == 2
    else:
        assert InputShape().convert(text, None, None) == expected


def test_several_boards_are_measured_and_one_that_is_gone_stops_no_other(edgekit, edgekit_json, double: Path):
    (double.parent / "ssh").write_text("")
    (double.parent / "devices.yaml").write_text(
        "devices:\n"
        "  - {name: one, target: cpu-x86-64}\n"
        "  - {name: two, target: cpu-x86-64}\n"
        "  - {name: gone, target: raspberry-pi-5, transport: ssh, address: board.invalid, ssh_config: ssh}\n"
    )
    code, document = edgekit_json(
        "profile", "double.onnx", "--device", "one", "--device", "gone", "--device", "two", *QUICK
    )
    assert code == 4
    assert [found["device"] for found in document["profiles"]] == ["one", "two"]
    assert [row["where"] for row in document["skipped"]] == ["device gone"]
    assert "nothing is called 'board.invalid'" in document["skipped"][0]["reason"]
    wrong = edgekit("profile", "double.onnx", "--device", "one", "--device", "none")
    assert wrong.exit_code == 4
    assert "no device is called 'none'" in wrong.stderr
