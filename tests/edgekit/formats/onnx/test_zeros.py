"""Zeros of a network are in its files: bit for bit in float, as codes of zero in integers."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgekit.formats.onnx.export import export_onnx
from edgekit.formats.onnx.zeros import stored_weights, weights_of
from edgekit.formats.tensorrt.export import export_tensorrt
from edgekit.formats.tflite import zeros as tflite_zeros
from edgekit.formats.tflite.export import export_tflite
from edgekit.nets.load import find_outputs
from edgekit.nets.model import Model
from edgekit.numerics.sparsity import two_of_four
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import Export, ModelSource
from edgekit.schema.tensors import InputSpec
from tests.edgekit.formats.quantised import context


def sparse_network() -> nn.Sequential:
    """A dense stem; a convolution, a depthwise one and two linear layers, the first two of three in 2:4."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 16),
        nn.ReLU(),
        nn.Linear(16, 4),
    )
    with torch.no_grad():
        for index in (2, 7):
            network[index].weight *= two_of_four(network[index].weight)
        network[9].weight.view(-1)[::3] = 0
    return network.eval()


@pytest.fixture(scope="module")
def model() -> Model:
    source = ModelSource(factory=f"{__name__}:sparse_network", inputs=(InputSpec(name="image", shape=(1, 1, 8, 8)),))
    network = sparse_network()
    return Model(network, source, find_outputs(network, source))


ZEROS = [0, 288, 0, 256, 22]  # of the five weights, in order


def test_a_float_file_holds_the_weights_bit_for_bit(model: Model, tmp_path: Path) -> None:
    path = export_onnx(model, "onnxruntime-x86", tmp_path, "float", Export()).path
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer if tensor.dims}
    for name, parameter in model.network.named_parameters():
        wanted = parameter.detach().numpy()
        assert any(
            array.tobytes() in (wanted.tobytes(), np.ascontiguousarray(wanted.T).tobytes()) for array in stored.values()
        ), name
    found = stored_weights(path)
    assert [weight.zeros for weight in found] == ZEROS
    assert [weight.count for weight in found] == [72, 576, 72, 512, 64]
    assert [weight.two_of_four for weight in found] == [False, True, False, True, False]


@pytest.mark.parametrize("convention", ["onnxruntime-x86-vnni", "tensorrt"])
def test_integer_files_have_codes_of_zero_for_zeros(convention: str, model: Model, tmp_path: Path) -> None:
    quantised = quantize(model, QuantizeOptions(), context(model))
    path = export_onnx(quantised, convention, tmp_path, "model", Export()).path
    found = stored_weights(path)
    assert [weight.value_bytes for weight in found] == [1] * 5
    assert all(weight.zeros >= zeros for weight, zeros in zip(found, ZEROS, strict=True))
    assert [found[1].two_of_four, found[3].two_of_four] == [True, True]


def test_a_tflite_file_holds_them_too(model: Model, tmp_path: Path) -> None:
    quantised = quantize(model, QuantizeOptions(), context(model))
    found = tflite_zeros.stored_weights(export_tflite(quantised, "litert", tmp_path, "model", Export()).path)
    assert [weight.value_bytes for weight in found] == [1] * 5
    assert all(weight.zeros >= zeros for weight, zeros in zip(found, ZEROS, strict=True))
    assert sum(weight.zeros for weight in found) < sum(ZEROS) + 20


def test_tensorrt_is_asked_for_sparse_kernels_where_weights_are_two_of_four(model: Model, tmp_path: Path) -> None:
    row = export_tensorrt(model, "tensorrt", tmp_path, "model", Export()).row
    assert row.two_of_four == 2
    plan = (tmp_path / "engine.json").read_text()
    assert plan.count('"--sparsity=enable"') == 2
    assert '"sparse_weights": true' in plan
    dense = sparse_network()
    for index in (2, 7):
        nn.init.ones_(dense[index].weight)  # type: ignore[arg-type]
    row = export_tensorrt(Model(dense, model.source, model.outputs), "tensorrt", tmp_path, "model", Export()).row
    assert row.two_of_four == 0
    plan = (tmp_path / "engine.json").read_text()
    assert "--sparsity" not in plan
    assert '"sparse_weights": false' in plan


def _graph(nodes: list[onnx.NodeProto], **arrays: NDArray[Any]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph)


def test_a_zero_is_the_code_that_stands_for_it_and_inputs_lie_where_the_operator_has_them() -> None:
    fours = np.array([[5, 3, 3, 5], [3, 5, 5, 3], [3, 3, 5, 5]], np.int8)  # (3 outputs, 4 inputs), 3 stands for 0
    grid: dict[str, NDArray[Any]] = {"s": np.array(0.5, np.float32), "z": np.array(3, np.int8)}
    dq = helper.make_node("DequantizeLinear", ["w", "s", "z"], ["dq"])
    turn = helper.make_node("Transpose", ["dq"], ["t"], perm=[1, 0])
    (found,) = weights_of(_graph([dq, turn, helper.make_node("MatMul", ["x", "t"], ["y"])], w=fours, **grid))
    assert (found.zeros, found.count, found.two_of_four) == (6, 12, True)
    (found,) = weights_of(_graph([dq, helper.make_node("Gemm", ["x", "dq"], ["y"], transB=1)], w=fours, **grid))
    assert found.two_of_four
    square = np.ones((4, 4), np.float32)
    square[:2] = 0
    (found,) = weights_of(_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], w=square))
    assert found.two_of_four  # (inputs, outputs): of four inputs two are zero
    (found,) = weights_of(_graph([helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)], w=square))
    assert (found.zeros, found.two_of_four) == (8, False)


def test_one_weight_of_two_operators_counts_once() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    assert len(list(weights_of(_graph(nodes, w=np.zeros((8, 8), np.float32))))) == 1
