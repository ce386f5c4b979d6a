import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")

WEIGHT = np.array([[1.0, -2.0, 0.3], [0.5, 3.0, -0.7], [-1.5, 0.25, 1.1], [0.8, -0.9, 2.0]], np.float32)


def _write(path, weight, second):
    """y = relu(x W) V, in float."""
    helper = onnx.helper
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "v"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 4])],
        [helper.make_tensor_value_info("y", 1, [1, 2])],
        [onnx.numpy_helper.from_array(weight, "w"), onnx.numpy_helper.from_array(second, "v")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


@pytest.fixture
def files(tmp_path):
    second = np.array([[1.0, 0.2], [-0.4, 1.5], [0.6, -2.0]], np.float32)
    _write(tmp_path / "a.onnx", WEIGHT, second)
    _write(tmp_path / "same.onnx", WEIGHT, second)
    _write(tmp_path / "fault.onnx", WEIGHT, second * np.float32(1.25))


def test_two_equal_files_have_no_bad_layer(files, edgekit):
    result = edgekit("debug", "parity", "a.onnx", "same.onnx", "--count", "3")
    assert result.exit_code == 0, result.output
    assert "same.onnx against a.onnx" in result.stdout
    assert "3 samples, random numbers" in result.stdout
    assert "NO BAD LAYER" in result.stdout
    assert "no error at all" in result.stdout
    assert "comparing same.onnx with a.onnx" in result.stderr


def test_a_bad_layer_is_named_with_its_reason_and_the_exit_code_is_3(files, edgekit):
    result = edgekit("debug", "parity", "a.onnx", "fault.onnx")
    assert result.exit_code == 3
    assert "BAD LAYER  y: its weights are 1.25 times the reference's: a scale is wrong" in result.stdout
    row = next(line for line in result.stdout.splitlines() if line.startswith("y "))
    assert row.split()[:3] == ["y", "linear", "12.0"]  # 20 log10(1 / 0.25)
    assert row.endswith("bad")


def test_json_holds_everything(files, edgekit_json):
    code, document = edgekit_json("debug", "parity", "a.onnx", "fault.onnx", "--count", "2")
    assert code == 3
    assert document["passed"] is False
    (comparison,) = document["comparisons"]
    assert comparison["samples"] == 2
    assert [row["state"] for row in comparison["layers"]] == ["ok", "ok", "bad"]
    assert comparison["layers"][2]["own_snr_db"] == pytest.approx(20 * np.log10(4), abs=0.01)
    assert comparison["layers"][1]["exact"] is True


def test_the_page_is_written(files, edgekit, tmp_path):
    result = edgekit("debug", "parity", "a.onnx", "fault.onnx", "--html", "out/page.html")
    assert result.exit_code == 3
    assert "plots: out/page.html" in result.stdout
    page = (tmp_path / "out/page.html").read_text(encoding="utf-8")
    assert "y: its weights are 1.25 times the reference&#39;s" in page


def test_an_error_of_ours_is_1_and_says_what_to_do(edgekit):
    result = edgekit("debug", "parity", "absent.onnx", "other.onnx")
    assert result.exit_code == 1
    assert "there is no such file" in result.stderr


def test_nothing_to_compare_is_a_usage_error(edgekit):
    assert edgekit("debug", "parity").exit_code == 2
    assert edgekit("debug", "parity", "a.onnx", "--count", "0").exit_code == 2


def test_help_says_the_exit_codes(edgekit):
    result = edgekit("debug", "parity", "--help")
    assert "3 a bad layer was found" in " ".join(result.output.split())
