"""What an ONNX file computes and moves, beside what is counted by hand."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import FormatError
from edgekit.profiling.predict_costs import graph_costs


def weight(name: str, *shape: int, dtype=np.float32):
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def save(path: Path, nodes, weights, shape=(1, 3, 8, 8), out="y") -> Path:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def network(path: Path) -> Path:
    """Convolution, depthwise convolution, pool, linear: (1, 3, 8, 8) -> (1, 5)."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="depthwise", group=4, pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["a1"], name="add"),
        helper.make_node("GlobalAveragePool", ["a1"], ["p1"], name="pool"),
        helper.make_node("Flatten", ["p1"], ["f1"]),
        helper.make_node("Gemm", ["f1", "w3", "b3"], ["y"], name="linear", transB=1),
    ]
    weights = [weight("w1", 4, 3, 3, 3), weight("b1", 4), weight("w2", 4, 1, 3, 3), weight("w3", 5, 4), weight("b3", 5)]
    return save(path, nodes, weights)


def test_kernels_are_counted_as_by_hand(tmp_path: Path):
    costs = graph_costs(network(tmp_path / "net.onnx"))
    assert [(k.name, k.kind, k.macs, k.values, k.weights) for k in costs.kernels] == [
        ("conv", "dense", 64 * 27, 3 * 64 + 64, 4 * 27 + 4),
        ("depthwise", "depthwise", 64 * 9, 64 + 64, 36),
        ("add", "other", 0, 3 * 64, 0),
        ("pool", "other", 0, 64 + 4, 0),
        ("linear", "linear", 5 * 4, 4 + 5, 20 + 5),
    ]
    assert (costs.precision, costs.macs) == ("fp32", 64 * 36 + 20)
    assert costs.kernels[0].moved_bytes("fp32") == 4 * costs.kernels[0].moved_bytes("int8") == 4 * 368


def test_q_dq_around_a_layer_changes_its_type_alone(tmp_path: Path):
    scale, zero = weight("s"), numpy_helper.from_array(np.zeros((), np.int8), "z")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"]),
        helper.make_node("Conv", ["xd", "wd"], ["y"], name="conv"),
    ]
    costs = graph_costs(save(tmp_path / "q.onnx", nodes, [scale, zero, weight("w", 4, 3, 3, 3, dtype=np.int8)]))
    (kernel,) = costs.kernels
    assert costs.precision == "int8"
    assert (kernel.kind, kernel.macs, kernel.values, kernel.weights) == ("dense", 4 * 36 * 27, 192 + 144, 108)


def test_products_of_activations_have_no_weights(tmp_path: Path):
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], name="transpose", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "t"], ["y"], name="product"),
    ]
    costs = graph_costs(save(tmp_path / "m.onnx", nodes, [], shape=(1, 6, 7)))
    product = costs.kernels[-1]
    assert (product.kind, product.macs, product.weights) == ("linear", 6 * 6 * 7, 0)


def test_an_open_shape_and_a_foreign_file_are_refused(tmp_path: Path):
    open_shape = save(tmp_path / "o.onnx", [helper.make_node("Sigmoid", ["x"], ["y"])], [], shape=("batch", 3))
    with pytest.raises(FormatError) as caught:
        graph_costs(open_shape)
    assert "is not known" in caught.value.what
    (tmp_path / "text.onnx").write_text("no protobuf")
    with pytest.raises(FormatError):
        graph_costs(tmp_path / "text.onnx")
