"""Float16 copies: what is converted, what stays, what is refused, and that the function stays the same."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.agent.runtimes.onnxruntime import OnnxRuntime
from edgekit.errors import FormatError
from edgekit.formats.tensorrt.export import export_tensorrt
from edgekit.formats.tensorrt.half import to_float16
from edgekit.schema.recipe import Export
from tests import nets
from tests.edgekit.formats.quantised import quantised


def model(nodes: list[Any], initialisers: dict[str, np.ndarray], **shapes: list[int]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shapes["x"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shapes["y"])],
        [numpy_helper.from_array(values, name) for name, values in initialisers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(proto: onnx.ModelProto, folder: Path, x: np.ndarray) -> np.ndarray:
    path = folder / "run.onnx"
    onnx.save(proto, path)
    with OnnxRuntime(path, 1, {}) as runtime:
        (found,) = runtime.infer({proto.graph.input[0].name: x}).values()
    return found


@pytest.mark.parametrize("layers", [nets.TINY_RESIDUAL, nets.TINY_CONV], ids=["residual", "conv"])
def test_an_exported_network_computes_the_same_in_float16(layers: Any, tmp_path: Path):
    network = nets.model(layers)
    artifact = export_tensorrt(network, "tensorrt", tmp_path, "model", Export())
    before = onnx.load(artifact.path)
    content = before.SerializeToString()
    half = to_float16(before, "model.onnx")
    assert before.SerializeToString() == content
    assert {t.data_type for t in half.graph.initializer} & {TensorProto.FLOAT, TensorProto.DOUBLE} == set()
    assert TensorProto.FLOAT16 in {t.data_type for t in half.graph.initializer}
    for old, new in ((before.graph.input, half.graph.input), (before.graph.output, half.graph.output)):
        assert [(t.name, t.type) for t in old] == [(t.name, t.type) for t in new]
    (samples,) = network.example(4, seed=3)
    for x in samples:
        expected, given = run(before, tmp_path, x[None].numpy()), run(half, tmp_path, x[None].numpy())
        assert given.dtype == np.float32
        # float16 has 11 significant bits; a handful of layers add up to a few of them
        np.testing.assert_allclose(given, expected, rtol=0, atol=4 * 2**-11 * np.abs(expected).max() + 2**-11)
        assert not np.array_equal(given, expected)  # it really was rounded


def test_scales_of_a_resize_stay_float32(tmp_path: Path):
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["r"], mode="nearest"),
        helper.make_node("Mul", ["r", "w"], ["y"]),
    ]
    scales = np.array([1, 1, 2, 2], np.float32)
    proto = model(nodes, {"scales": scales, "w": np.full(1, 3, np.float32)}, x=[1, 1, 2, 2], y=[1, 1, 4, 4])
    half = to_float16(proto, "m.onnx")
    types = {t.name: t.data_type for t in half.graph.initializer}
    assert types == {"scales": TensorProto.FLOAT, "w": TensorProto.FLOAT16}
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(run(half, tmp_path, x), run(proto, tmp_path, x))


def test_constants_and_casts_in_the_graph_follow(tmp_path: Path):
    value = numpy_helper.from_array(np.array([2.0], np.float32), "c")
    nodes = [
        helper.make_node("Constant", [], ["c"], value=value),
        helper.make_node("Constant", [], ["d"], value_float=0.5),
        helper.make_node("Mul", ["x", "c"], ["m"]),
        helper.make_node("Cast", ["m"], ["i"], to=TensorProto.INT32),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "d"], ["n"]),
        helper.make_node("Add", ["n", "m"], ["y"]),
    ]
    proto = model(nodes, {}, x=[3], y=[3])
    x = np.array([1.25, -2.5, 3.75], np.float32)
    np.testing.assert_array_equal(run(to_float16(proto, "m.onnx"), tmp_path, x), [3.5, -7.5, 11.0])


def test_an_output_that_is_also_used_inside(tmp_path: Path):
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["y"], ["z"])]
    proto = model(nodes, {}, x=[2], y=[2])
    proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [2]))
    half = to_float16(proto, "m.onnx")
    onnx.save(half, tmp_path / "two.onnx")
    with OnnxRuntime(tmp_path / "two.onnx", 1, {}) as runtime:
        found = runtime.infer({"x": np.array([-1, 2], np.float32)})
    assert found["y"].tolist() == [0, 2]
    assert found["z"].tolist() == [0, -2]


def test_what_float16_cannot_hold_is_refused():
    proto = model([helper.make_node("Mul", ["x", "w"], ["y"])], {"w": np.array([7e4], np.float32)}, x=[1], y=[1])
    with pytest.raises(FormatError) as caught:
        to_float16(proto, "m.onnx")
    assert "70000 is beyond float16" in caught.value.what
    assert caught.value.where == "m.onnx, tensor w"


def test_a_quantised_network_is_refused(tmp_path: Path):
    artifact = export_tensorrt(quantised(nets.TINY_RESIDUAL), "tensorrt", tmp_path, "model", Export())
    with pytest.raises(FormatError) as caught:
        to_float16(onnx.load(artifact.path), "model.onnx")
    assert "QuantizeLinear" in caught.value.what
