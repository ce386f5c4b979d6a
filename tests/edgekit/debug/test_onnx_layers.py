"""Layers read from ONNX graphs, ours and as other exporters write them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.debug.layers import INPUT
from edgekit.debug.onnx_layers import OnnxLayers
from edgekit.errors import FormatError


def _graph(nodes, stored, output="y", shape=(1, 2, 4, 4)) -> onnx.GraphProto:
    return helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in stored.items()],
    )


def test_our_own_export_has_the_layers_of_its_network(colour_onnx, colour_model):
    found = OnnxLayers(onnx.load(colour_onnx).graph, "model.onnx")
    assert [(layer.name, layer.tensor, layer.kind, layer.sources, layer.activated) for layer in found.layers] == [
        ("input:image", "image", INPUT, (), False),
        ("conv2d", "relu", "conv", ("input:image",), True),
        ("conv2d_1", "conv2d_1", "conv", ("conv2d",), False),
        ("add", "relu_1", "add", ("conv2d", "conv2d_1"), True),
        ("mean", "mean", "averagepool", ("add",), False),
        ("linear", "linear", "linear", ("mean",), False),
    ]
    edge = colour_model.table.edges["/relu"]
    grid = found.layers[1].grid
    assert grid.scale == pytest.approx(edge.scale)
    assert (grid.zero_point, grid.qmin, grid.qmax) == (edge.zero_point + 128, 0, 255)
    codes = colour_model.table.weights["stem.weight"]
    weight = found.layers[1].weight
    np.testing.assert_allclose(weight.values, codes.values().numpy(), rtol=1e-6)
    assert weight.step[:, 0, 0, 0] == pytest.approx(codes.scale.numpy(), rel=1e-4)
    assert weight.high == 127
    assert found.layers[0].shape == (8, 3, 8, 8)
    # the bias of the table's own convention: codes of s_in * s_w
    np.testing.assert_allclose(found.layers[1].bias, colour_model.network.stem.bias.detach(), atol=2e-3)


def test_a_norm_and_an_activation_belong_to_the_convolution_before_them():
    ones = np.ones(3, np.float32)
    found = OnnxLayers(
        _graph(
            [
                helper.make_node("Conv", ["x", "w"], ["c"]),
                helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["n"]),
                helper.make_node("Clip", ["n", "low", "high"], ["y"]),
            ],
            {"w": np.ones((3, 2, 1, 1), np.float32), "g": ones, "b": ones, "m": ones, "v": ones}
            | {"low": np.float32(0), "high": np.float32(6)},
        ),
        "m",
    )
    (_, layer) = found.layers
    assert (layer.kind, layer.tensor, layer.activated) == ("conv", "y", True)
    assert layer.weight is None  # what it multiplies with is the weight times the norm's gain


def test_a_product_with_a_constant_and_the_addition_behind_it_are_a_linear_layer():
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = OnnxLayers(
        _graph(
            [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["b", "p"], ["y"])],
            {"w": weight, "b": np.array([1, 2, 3], np.float32)},
            shape=(1, 2),
        ),
        "m",
    )
    (_, layer) = found.layers
    assert layer.kind == "linear"
    np.testing.assert_array_equal(layer.weight.values, weight.T)
    np.testing.assert_array_equal(layer.bias, [1, 2, 3])


def test_an_activation_behind_a_pair_of_its_own_is_still_part_of_the_layer():
    found = OnnxLayers(
        _graph(
            [
                helper.make_node("Conv", ["x", "w"], ["c"]),
                helper.make_node("QuantizeLinear", ["c", "s", "z"], ["q"]),
                helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
                helper.make_node("Relu", ["d"], ["y"]),
            ],
            {"w": np.ones((3, 2, 1, 1), np.float32), "s": np.float32(0.5), "z": np.int8(3)},
        ),
        "m",
    )
    assert [(layer.kind, layer.tensor) for layer in found.layers] == [(INPUT, "x"), ("conv", "y")]


def test_a_grid_behind_data_movement_is_the_layers():
    found = OnnxLayers(
        _graph(
            [
                helper.make_node("Relu", ["x"], ["r"]),
                helper.make_node("Flatten", ["r"], ["f"]),
                helper.make_node("QuantizeLinear", ["f", "s", "z"], ["q"]),
                helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
            ],
            {"s": np.float32(0.5), "z": np.int8(3)},
        ),
        "m",
    )
    assert found.layers[1].grid.scale == 0.5
    assert "r" not in found.pairs  # what is read of it is the float


def test_sizes_are_not_activations():
    found = OnnxLayers(
        _graph(
            [
                helper.make_node("Shape", ["x"], ["s"]),
                helper.make_node("Gather", ["s", "i"], ["n"]),
                helper.make_node("Mul", ["n", "i"], ["m"]),
                helper.make_node("Relu", ["x"], ["y"]),
            ],
            {"i": np.array([0], np.int64)},
        ),
        "m",
    )
    assert [layer.name for layer in found.layers] == ["input:x", "y"]


def test_weights_by_blocks_have_a_step_for_each():
    codes = np.arange(-4, 4, dtype=np.int8).reshape(4, 2)
    scale = np.array([[0.5, 1.0], [2.0, 4.0]], np.float32)
    found = OnnxLayers(
        _graph(
            [
                helper.make_node("DequantizeLinear", ["c", "s"], ["w"], axis=0, block_size=2),
                helper.make_node("MatMul", ["x", "w"], ["y"]),
            ],
            {"c": codes, "s": scale},
            shape=(1, 4),
        ),
        "m",
    )
    weight = found.layers[1].weight
    np.testing.assert_array_equal(weight.values, (codes * np.repeat(scale, 2, 0)).T)
    np.testing.assert_array_equal(weight.step, np.repeat(scale, 2, 0).T)


def test_a_product_of_dynamic_codes_is_a_linear_layer_up_to_its_bias():
    codes, scale = np.arange(-3, 3, dtype=np.int8).reshape(2, 3), np.array([0.5, 1.0, 2.0], np.float32)
    found = OnnxLayers(
        _graph(
            [
                helper.make_node("Relu", ["x"], ["r"]),
                helper.make_node("DynamicQuantizeLinear", ["r"], ["q", "s", "z"]),
                helper.make_node("MatMulInteger", ["q", "w", "z"], ["sums"]),
                helper.make_node("Cast", ["sums"], ["real"], to=TensorProto.FLOAT),
                helper.make_node("Mul", ["s", "v"], ["scales"]),
                helper.make_node("Mul", ["real", "scales"], ["product"]),
                helper.make_node("Add", ["product", "b"], ["sum"]),
                helper.make_node("Relu", ["sum"], ["y"]),
            ],
            {"w": codes, "v": scale, "b": np.array([1, 2, 3], np.float32)},
            shape=(1, 2),
        ),
        "m",
    )
    assert [(layer.kind, layer.tensor, layer.sources, layer.dynamic) for layer in found.layers] == [
        (INPUT, "x", (), False),
        ("relu", "r", ("input:x",), True),
        ("linear", "y", ("r",), False),
    ]
    np.testing.assert_array_equal(found.layers[2].weight.values, (codes * scale).T)
    np.testing.assert_array_equal(found.layers[2].weight.step, np.broadcast_to(scale, (2, 3)).T)
    np.testing.assert_array_equal(found.layers[2].bias, [1, 2, 3])


def test_types_of_half_precision_are_seen():
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Cast", ["r"], ["y"], to=TensorProto.FLOAT),
    ]
    assert [layer.dtype for layer in OnnxLayers(_graph(nodes, {}), "m").layers] == ["float32", "float16"]


def test_the_integer_form_is_refused_by_name():
    node = helper.make_node("QLinearMatMul", ["x", *"abcdefg"], ["y"], name="product")
    with pytest.raises(FormatError) as caught:
        OnnxLayers(_graph([node], {}), "m.onnx")
    assert caught.value.what.startswith("QLinearMatMul computes in integers")
    assert caught.value.where == "m.onnx, node product"
