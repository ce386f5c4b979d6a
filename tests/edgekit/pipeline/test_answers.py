"""What an artifact answers on this machine: inputs of every type come to it as they are."""

import hashlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.pipeline.answers import answer_here
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.tensors import ArtifactTensor

TOKEN = 2**24 + 1  # the first integer that float32 has no number for


def test_tokens_stay_integers(tmp_path):
    pytest.importorskip("onnxruntime", reason="runs the ONNX artifact")
    graph = helper.make_graph(
        [helper.make_node("Sub", ["x", "t"], ["d"]), helper.make_node("Cast", ["d"], ["y"], to=TensorProto.FLOAT)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(np.array(TOKEN), "t")],
    )
    path = tmp_path / "difference.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    row = ArtifactRow(
        format="onnx",
        convention="onnxruntime-x86",
        path=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size_bytes=path.stat().st_size,
        precision="fp32",
        inputs=(ArtifactTensor(name="x", network_name="tokens", shape=(1, 2), dtype="int64", layout="NT"),),
        outputs=(ArtifactTensor(name="y", network_name="output", shape=(1, 2), dtype="float32", layout="NC"),),
    )
    found = answer_here(path, row, {"tokens": np.array([[TOKEN, 3]])}, {"tokens": "NT"})
    np.testing.assert_array_equal(found.outputs["output"], [[0, 3 - TOKEN]])
    assert found.runtime.startswith("onnxruntime")
