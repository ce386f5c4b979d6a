"""Files as they lie on disk: damaged, too old, quantised, with their weights beside them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import ModelError
from edgekit.nets.from_onnx.file import onnx_files, read_onnx
from edgekit.nets.from_onnx.inputs import onnx_inputs
from edgekit.schema.tensors import InputSpec
from tests.edgekit.nets.from_onnx.graphs import Running, flat, model, numbers, value


def small(shape=(1, 6), batch=None, opset=13, dtype=np.float32, weight=None):
    weight = numbers(6, 5) if weight is None else weight
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "fc")]
    return model(
        nodes, [value("x", Running(shape, dtype=dtype), batch)], ["y"], [numpy_helper.from_array(weight, "w")], opset
    )


def refused(path, call=read_onnx, *rest):
    with pytest.raises(ModelError) as caught:
        call(path, *rest, "model.onnx: net.onnx") if rest else call(path, "model.onnx: net.onnx")
    return caught.value


@pytest.mark.parametrize("content", [b"", b"no protocol buffer", b"\x08\x08", b"\x00" * 100])
def test_what_is_no_onnx_is_refused(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)
    error = refused(tmp_path / "net.onnx")
    assert "damaged" in error.what or "no ONNX graph" in error.what
    assert error.where == "model.onnx: net.onnx"
    assert "onnx.checker" in error.fix


def test_a_file_cut_in_half_is_refused(tmp_path):
    whole = small(weight=numbers(6, 500)).SerializeToString()
    (tmp_path / "net.onnx").write_bytes(whole[: len(whole) // 2])
    assert "damaged" in refused(tmp_path / "net.onnx").what


def test_no_file(tmp_path):
    error = refused(tmp_path / "net.onnx")
    assert "No such file" in error.what
    assert error.fix == "correct model.onnx"


def test_a_graph_that_the_checker_refuses(tmp_path):
    made = small()
    made.graph.node[0].input[1] = "nowhere"
    onnx.save(made, tmp_path / "net.onnx")
    assert "nowhere" in refused(tmp_path / "net.onnx").what


@pytest.mark.parametrize("opset", [6, 999])
def test_an_operator_set_that_is_not_read(tmp_path, opset):
    made = small()
    made.opset_import[0].version = opset
    onnx.save(made, tmp_path / "net.onnx")
    error = refused(tmp_path / "net.onnx")
    assert f"operator set {opset}; 7 to " in error.what
    assert "operator set 18" in error.fix


def test_a_quantised_network_is_refused_with_its_node(tmp_path):
    made = small()
    made.graph.initializer.extend(
        [numpy_helper.from_array(flat(0.1), "s"), numpy_helper.from_array(np.array(0, np.uint8), "z")]
    )
    made.graph.node.insert(0, helper.make_node("DequantizeLinear", ["q", "s", "z"], ["x2"], "deq"))
    made.graph.node.insert(0, helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "quant"))
    made.graph.node[2].input[0] = "x2"
    onnx.save(made, tmp_path / "net.onnx")
    error = refused(tmp_path / "net.onnx")
    assert "quantised already" in error.what
    assert error.where == "model.onnx: net.onnx, node quant"
    assert "float model" in error.fix


def test_weights_beside_the_file_are_read_and_counted(tmp_path):
    weight = numbers(6, 500)
    onnx.save(
        small(weight=weight), tmp_path / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    file = read_onnx(tmp_path / "net.onnx", "")
    np.testing.assert_array_equal(numpy_helper.to_array(file.proto.graph.initializer[0]), weight)
    assert [path.name for path in onnx_files(tmp_path / "net.onnx", "")] == ["net.onnx", "w.bin"]
    (tmp_path / "w.bin").unlink()
    assert "w.bin" in refused(tmp_path / "net.onnx", onnx_files).what
    assert "outside the file" in refused(tmp_path / "net.onnx").what


@pytest.mark.parametrize("place", ["../secret", "/etc/hostname"])
def test_weights_elsewhere_are_not_read(tmp_path, place):
    made = small()
    (tensor,) = made.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    error = refused(tmp_path / "net.onnx")
    assert place in error.what
    assert "outside the folder" in error.what


def test_inputs_are_read_as_the_file_has_them(tmp_path):
    onnx.save(small((1, 4, 6), batch="N"), tmp_path / "net.onnx")
    assert onnx_inputs(tmp_path / "net.onnx", (), "") == (
        InputSpec(name="x", shape=(1, 4, 6), dtype="float32", layout="NTC"),
    )


def test_an_open_size_besides_the_batch_wants_a_shape(tmp_path):
    made = small((1, 4, 6), batch="N")
    made.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "length"
    onnx.save(made, tmp_path / "net.onnx")
    error = refused(tmp_path / "net.onnx", onnx_inputs, ())
    assert "[N, length, 6]" in error.what
    assert "shape: [1, ..., 6]" in error.fix
    given = (InputSpec(name="x", shape=(1, 9, 6)),)
    assert onnx_inputs(tmp_path / "net.onnx", given, "") == given


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (InputSpec(name="z", shape=(1, 6)), "inputs z are declared, and the graph has x"),
        (InputSpec(name="x", shape=(1, 7)), "is declared float32 [1, 7], and the graph has float32 [1, 6]"),
        (InputSpec(name="x", shape=(1, 6), dtype="int64"), "is declared int64"),
    ],
)
def test_inputs_declared_otherwise_are_refused(tmp_path, given, what):
    onnx.save(small(), tmp_path / "net.onnx")
    error = refused(tmp_path / "net.onnx", onnx_inputs, (given,))
    assert what in error.what
    assert "model.inputs" in error.where
