"""Each rewrite keeps the function; ONNX Runtime is the witness."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.formats.onnx.rewrite import clean, fuse_pads, order_gelus, use_global_pools


def _constant(name: str, values: object, dtype: type = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def _graph(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], output: list[int]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _run(model: onnx.ModelProto) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(1, 2, 5, 5)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def _padded(pads: list[int], value: float = 0.0, own: tuple[int, ...] = (0, 0, 0, 0)) -> onnx.ModelProto:
    weight = np.random.default_rng(1).normal(size=(3, 2, 3, 3))
    height = 5 + pads[2] + pads[6] + own[0] + own[2] - 2
    width = 5 + pads[3] + pads[7] + own[1] + own[3] - 2
    return _graph(
        [
            helper.make_node("Pad", ["x", "pads", "value"], ["padded"], mode="constant"),
            helper.make_node("Conv", ["padded", "w"], ["y"], pads=list(own)),
        ],
        [_constant("pads", pads, np.int64), _constant("value", value), _constant("w", weight)],
        [1, 3, height, width],
    )


@pytest.mark.parametrize("own", [(0, 0, 0, 0), (1, 0, 0, 2)])
def test_a_zero_pad_moves_into_its_convolution(own: tuple[int, ...]) -> None:
    model = _padded([0, 0, 0, 1, 0, 0, 2, 1], own=own)
    before = _run(model)
    assert fuse_pads(model.graph) == 1
    assert [n.op_type for n in model.graph.node] == ["Conv"]
    np.testing.assert_allclose(_run(model), before, rtol=1e-6)
    assert {t.name for t in model.graph.initializer} == {"w"}


def test_a_pad_with_another_value_stays() -> None:
    assert fuse_pads(_padded([0, 0, 1, 1, 0, 0, 1, 1], value=0.5).graph) == 0


def test_a_pad_of_channels_stays() -> None:
    model = _graph(
        [
            helper.make_node("Pad", ["x", "pads"], ["padded"]),
            helper.make_node("Conv", ["padded", "w"], ["y"]),
        ],
        [_constant("pads", [0, 1, 0, 0, 0, 0, 0, 0], np.int64), _constant("w", np.ones((3, 3, 3, 3)))],
        [1, 3, 3, 3],
    )
    assert fuse_pads(model.graph) == 0


def test_mean_over_height_and_width_becomes_a_global_pool() -> None:
    nodes = [helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=1)]
    model = _graph(nodes, [_constant("axes", [-1, 2], np.int64)], [1, 2, 1, 1])
    before = _run(model)
    assert use_global_pools(model.graph) == 1
    np.testing.assert_allclose(_run(model), before, rtol=1e-6)


def test_mean_over_channels_stays() -> None:
    nodes = [helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=1)]
    assert use_global_pools(_graph(nodes, [_constant("axes", [1], np.int64)], [1, 1, 5, 5]).graph) == 0


def test_clean_leaves_no_metadata() -> None:
    model = _padded([0, 0, 1, 1, 0, 0, 1, 1])
    model.producer_name = "somebody"
    node = model.graph.node[0]
    node.doc_string = "File /home/somebody/net.py"
    entry = node.metadata_props.add()
    entry.key, entry.value = "stack_trace", "secret"
    clean(model)
    content = model.SerializeToString()
    assert b"somebody" not in content
    assert b"secret" not in content


def _gelu(source: str = "x", *, factor: str = "half", read_twice: bool = False) -> onnx.ModelProto:
    """`source` * (0.5 * (erf(x / root) + 1)), as the exporter writes it; 0.5, root and 1 are other numbers here."""
    nodes = [
        helper.make_node("Neg", ["x"], ["negative"]),
        helper.make_node("Div", ["x", "root"], ["scaled"]),
        helper.make_node("Erf", ["scaled"], ["erf"]),
        helper.make_node("Add", ["erf", "one"], ["sum"]),
        helper.make_node("Mul", [factor, "sum"], ["share"]),
        helper.make_node("Mul", [source, "share"], ["gelu"]),
        helper.make_node("Add", ["gelu", "share" if read_twice else "x"], ["y"]),
    ]
    numbers = [_constant("root", 1.7), _constant("one", 1.25), _constant("half", 0.375)]
    return _graph(nodes, numbers, [1, 2, 5, 5])


def test_the_factor_of_a_gelu_is_taken_last_and_keeps_its_constants() -> None:
    model = _gelu()
    before = _run(model)
    assert order_gelus(model.graph) == 1
    made = {node.output[0]: list(node.input) for node in model.graph.node}
    assert (made["share"], made["gelu"]) == (["sum", "x"], ["share", "half"])
    np.testing.assert_allclose(_run(model), before, rtol=1e-6)


@pytest.mark.parametrize("options", [{"read_twice": True}, {"source": "negative"}, {"factor": "negative"}])
def test_a_product_that_is_no_gelu_keeps_its_order(options: dict[str, object]) -> None:
    model = _gelu(**options)  # type: ignore[arg-type]
    before = model.SerializeToString()
    assert order_gelus(model.graph) == 0
    assert model.SerializeToString() == before


def test_onnx_runtime_makes_one_gelu_only_of_the_order_that_it_knows(tmp_path: Path) -> None:
    model = _gelu()
    for name, value in (("root", 2**0.5), ("one", 1.0), ("half", 0.5)):
        next(tensor for tensor in model.graph.initializer if tensor.name == name).CopyFrom(_constant(name, value))
    assert "Gelu" not in _optimised(model, tmp_path / "before.onnx")
    order_gelus(model.graph)
    assert "Gelu" in _optimised(model, tmp_path / "after.onnx")


def _optimised(model: onnx.ModelProto, path: Path) -> set[str]:
    """Operators of the graph that ONNX Runtime executes."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(path), 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {node.op_type for node in onnx.load(path).graph.node}
