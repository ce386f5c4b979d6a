"""What is stored is read back, and the step of a code is what one code more would change."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.debug.onnx_constants import Constants, unpacked


def _constants(nodes, *stored: onnx.TensorProto) -> Constants:
    return Constants(helper.make_graph(nodes, "g", [], [], list(stored)))


def _tensor(name: str, values) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values), name)


def test_floats_have_no_step():
    weight = _constants([], _tensor("w", np.array([[0.1, 0.2]], np.float32))).weight("w")
    np.testing.assert_array_equal(weight.values, np.array([[0.1, 0.2]], np.float32))
    assert not weight.step.any()
    assert weight.high == 0


def test_integers_by_channel_have_their_scale_as_step_at_the_ends_too():
    codes = np.array([[-128, 0, 127], [5, -5, 1]], np.int8)
    node = helper.make_node("DequantizeLinear", ["c", "s", "z"], ["w"], axis=0)
    found = _constants(
        [node],
        _tensor("c", codes),
        _tensor("s", np.array([0.5, 2], np.float32)),
        _tensor("z", np.array([0, 1], np.int8)),
    )
    weight = found.weight("w")
    np.testing.assert_array_equal(weight.values, [[-64, 0, 63.5], [8, -12, 0]])
    np.testing.assert_array_equal(weight.step, [[0.5] * 3, [2.0] * 3])
    assert weight.high == 127


def test_halves_have_the_distance_of_their_own_size():
    node = helper.make_node("Cast", ["c"], ["w"], to=TensorProto.FLOAT)
    weight = _constants([node], _tensor("c", np.array([1.0, 1.5, 1000.0, 0.0], np.float16))).weight("w")
    # 1.0 is the end of a binade: the next number below is half as far
    np.testing.assert_allclose(weight.step[:3], [2**-11, 2**-10, 0.5])
    assert 0 < weight.step[3] < 1e-7


def test_codes_of_a_table_have_the_distance_to_the_next_entry():
    values = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
    words = helper.make_tensor("c", TensorProto.UINT4, [2, 4], [0, 3, 5, 7, 8, 9, 13, 15])
    nodes = [
        helper.make_node("Cast", ["c"], ["i"], to=TensorProto.INT32),
        helper.make_node("Gather", ["t", "i"], ["r"]),
        helper.make_node("Mul", ["r", "s"], ["w"]),
    ]
    weight = _constants(nodes, words, _tensor("t", values), _tensor("s", np.array([[1], [10]], np.float32))).weight("w")
    np.testing.assert_array_equal(weight.values, [[0, 1.5, 3, 6], [0, -5, -30, -60]])
    np.testing.assert_array_equal(weight.step, [[0.5, 0.5, 1, 2], [5, 5, 10, 20]])
    assert weight.high == 0


def test_a_table_that_is_larger_than_the_weight_is_not_taken_for_its_codes():
    nodes = [helper.make_node("Gather", ["t", "c"], ["w"])]
    table = np.arange(100, dtype=np.float32) * 3
    weight = _constants(nodes, _tensor("t", table), _tensor("c", np.array([[1, 99]], np.int32))).weight("w")
    np.testing.assert_array_equal(weight.values, [[3, 297]])
    np.testing.assert_array_equal(weight.step, [[3, 3]])


def test_shape_changes_behind_codes_are_followed():
    codes = np.arange(6, dtype=np.int8).reshape(3, 2)
    nodes = [
        helper.make_node("Cast", ["c"], ["r"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["r", "s"], ["m"]),
        helper.make_node("Reshape", ["m", "n"], ["f"]),
        helper.make_node("Transpose", ["f"], ["w"], perm=[1, 0]),
    ]
    scale, shape = _tensor("s", np.array([[1], [2], [4]], np.float32)), _tensor("n", np.array([2, 3], np.int64))
    weight = _constants(nodes, _tensor("c", codes), scale, shape).weight("w")
    np.testing.assert_array_equal(weight.values, (codes * np.array([[1], [2], [4]])).reshape(2, 3).T)
    np.testing.assert_array_equal(weight.step, np.array([1, 1, 2, 2, 4, 4]).reshape(2, 3).T)


def test_what_depends_on_an_input_or_on_an_unknown_operator_is_no_constant():
    nodes = [
        helper.make_node("Mul", ["c", "x"], ["a"]),
        helper.make_node("Unknown", ["c"], ["b"]),
        helper.make_node("FusedMatMul", ["c", "c"], ["d"], domain="com.microsoft"),
    ]
    found = _constants(nodes, _tensor("c", np.ones((2, 2), np.float32)))
    assert [found.value(name) for name in "abd"] == [None, None, None]
    assert found.weight("a") is None


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("stored_zero_point", [False, True])
def test_packed_blocks_are_unpacked_as_onnx_runtime_reads_them(bits, stored_zero_point):
    onnxruntime = pytest.importorskip("onnxruntime")
    random = np.random.default_rng(bits)
    rows, columns, block = 3, 40, 16  # the last block is not full
    blob = random.integers(0, 256, (rows, 3, block * bits // 8), dtype=np.uint8)
    stored = [_tensor("b", blob), _tensor("s", random.uniform(0.1, 1, rows * 3).astype(np.float32))]
    if stored_zero_point:
        count = 2 if bits == 4 else 3  # two 4-bit ones in a byte, each row from a new byte on
        stored.append(_tensor("z", random.integers(0, 256, rows * count, dtype=np.uint8)))
    names = ["x", "b", "s", *(["z"] if stored_zero_point else [])]
    node = helper.make_node(
        "MatMulNBits", names, ["y"], domain="com.microsoft", K=columns, N=rows, bits=bits, block_size=block
    )
    value = helper.make_tensor_value_info
    graph = helper.make_graph([node], "g", [value("x", 1, [columns, columns])], [value("y", 1, None)], stored)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (weight_of_runtime,) = session.run(None, {"x": np.eye(columns, dtype=np.float32)})
    weight = unpacked(node, Constants(graph))
    np.testing.assert_allclose(weight.values, weight_of_runtime.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(weight.step[1, 16:32], numpy_helper.to_array(stored[1])[4], rtol=1e-6)
    assert weight.high == 2 ** (bits - 1) - 1
