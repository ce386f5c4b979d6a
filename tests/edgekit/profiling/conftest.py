"""Small artifacts in every format, each with what it computes written in numpy or PyTorch."""

import hashlib
import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgekit.schema.device import Device
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.tensors import ArtifactTensor


@dataclass(frozen=True)
class Case:
    path: Path
    row: ArtifactRow
    weight: NDArray[np.float32]
    module: nn.Module | None = None


def artifact_row(path: Path, inputs: tuple[ArtifactTensor, ...], outputs: tuple[ArtifactTensor, ...]) -> ArtifactRow:
    content = path.read_bytes()
    return ArtifactRow(
        format="tflite" if path.suffix == ".tflite" else "onnx",
        convention="litert" if path.suffix == ".tflite" else "onnxruntime-x86",
        path=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        precision="fp32",
        inputs=inputs,
        outputs=outputs,
    )


def tensor(name: str, network_name: str, shape: tuple[int, ...], **changes: Any) -> ArtifactTensor:
    fields = {"name": name, "network_name": network_name, "shape": shape, "dtype": "float32", "layout": "NC"}
    return ArtifactTensor.model_validate({**fields, **changes})


@pytest.fixture(scope="session")
def local() -> Device:
    return Device(name="local", target="cpu-x86-64")


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """y = x W as ONNX, batch 4, (4, 6) -> (4, 3)."""
    weight = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x:0", "w"], ["y:0"])],
        "g",
        [helper.make_tensor_value_info("x:0", TensorProto.FLOAT, [4, 6])],
        [helper.make_tensor_value_info("y:0", TensorProto.FLOAT, [4, 3])],
        [numpy_helper.from_array(weight, "w")],
    )
    path = tmp_path_factory.mktemp("onnx") / "product.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    row = artifact_row(path, (tensor("x:0", "features", (4, 6)),), (tensor("y:0", "logits", (4, 3)),))
    return Case(path, row, weight)


@pytest.fixture(scope="session")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Integer codes in and out, channels last, batch 2: the real numbers of uint8 codes, times 3, as int8 codes."""
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["q", "s_in", "z_in"], ["x"]),
            helper.make_node("Mul", ["x", "three"], ["m"]),
            helper.make_node("QuantizeLinear", ["m", "s_out", "z_out"], ["p"]),
        ],
        "g",
        [helper.make_tensor_value_info("q", TensorProto.UINT8, [2, 2, 2, 3])],
        [helper.make_tensor_value_info("p", TensorProto.INT8, [2, 2, 2, 3])],
        [
            helper.make_tensor("s_in", TensorProto.FLOAT, [], [0.5]),
            helper.make_tensor("z_in", TensorProto.UINT8, [], [10]),
            helper.make_tensor("three", TensorProto.FLOAT, [], [3.0]),
            helper.make_tensor("s_out", TensorProto.FLOAT, [], [0.25]),
            helper.make_tensor("z_out", TensorProto.INT8, [], [-7]),
        ],
    )
    path = tmp_path_factory.mktemp("onnx") / "codes.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    shape = (2, 2, 2, 3)
    row = artifact_row(
        path,
        (tensor("q", "image", shape, dtype="uint8", layout="NHWC", scale=0.5, zero_point=10),),
        (tensor("p", "tripled", shape, dtype="int8", layout="NHWC", scale=0.25, zero_point=-7),),
    )
    return Case(path, row, np.zeros(0, np.float32))


@pytest.fixture(scope="session")
def convolution(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A convolution as .tflite, batch 2, (2, 3, 8, 8) -> (2, 4, 8, 8), known by its signature's names."""
    import warnings

    litert_torch = pytest.importorskip("litert_torch")
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()).eval()
    path = tmp_path_factory.mktemp("tflite") / "convolution.tflite"
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the converter's own
        litert_torch.convert(module, (torch.zeros(2, 3, 8, 8),)).export(str(path))
    row = artifact_row(
        path,
        (tensor("args_0", "image", (2, 3, 8, 8), layout="NCHW"),),
        (tensor("output_0", "map", (2, 4, 8, 8), layout="NCHW"),),
    )
    return Case(path, row, np.zeros(0, np.float32), module)


@pytest.fixture(scope="session")
def adder(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A recurrent step as ONNX, batch 2: next sum = sum + x W, in codes; twice that; the number of steps.

    The sum is int8 with scale 0.5 and zero point -3, the number of steps float.
    """
    weight = np.array([[1.0, -0.5, 2.0], [0.5, 1.5, -1.0]], np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["sum", "s", "z"], ["before"]),
            helper.make_node("MatMul", ["x", "w"], ["new"]),
            helper.make_node("Add", ["before", "new"], ["after"]),
            helper.make_node("QuantizeLinear", ["after", "s", "z"], ["sum_out"]),
            helper.make_node("Add", ["after", "after"], ["twice"]),
            helper.make_node("Add", ["steps", "one"], ["steps_out"]),
        ],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2]),
            helper.make_tensor_value_info("sum", TensorProto.INT8, [2, 3]),
            helper.make_tensor_value_info("steps", TensorProto.FLOAT, [2, 1]),
        ],
        [
            helper.make_tensor_value_info("twice", TensorProto.FLOAT, [2, 3]),
            helper.make_tensor_value_info("sum_out", TensorProto.INT8, [2, 3]),
            helper.make_tensor_value_info("steps_out", TensorProto.FLOAT, [2, 1]),
        ],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(np.float32(0.5), "s"),
            numpy_helper.from_array(np.int8(-3), "z"),
            numpy_helper.from_array(np.ones((1, 1), np.float32), "one"),
        ],
    )
    path = tmp_path_factory.mktemp("onnx") / "adder.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    grid = {"dtype": "int8", "scale": 0.5, "zero_point": -3}
    row = artifact_row(
        path,
        (tensor("x", "frames", (2, 2)), tensor("sum", "h", (2, 3), **grid), tensor("steps", "n", (2, 1))),
        (
            tensor("twice", "output", (2, 3)),
            tensor("sum_out", "next_h", (2, 3), **grid),
            tensor("steps_out", "next_n", (2, 1)),
        ),
    )
    return Case(path, row.model_copy(update={"feedback": {"next_h": "h", "next_n": "n"}}), weight)
