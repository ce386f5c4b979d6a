from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.pipeline.sparsity import sparse_artifacts
from edgekit.schema.load import load_target
from edgekit.schema.manifest import ArtifactRow, Measure, StepRow
from edgekit.schema.sparsity import SparseLayer, SparsityRow

MADE = SparsityRow(
    method="gradual",
    pattern="2:4",
    scope="layer",
    steps=100,
    begin=10,
    every=6,
    updates=10,
    recovery_steps=30,
    zeros=32,
    prunable_weights=64,
    all_weights=80,
    layers=(SparseLayer(weight="a.weight", zeros=32, weights=64),),
    left_dense={},
    size_bytes=320,
    deflated_bytes=200,
    bitmask_bytes=210,
)


def _steps(sparsity: SparsityRow | None, model: str = "model") -> tuple[StepRow, ...]:
    measure = Measure(params=80, macs=80, size_bytes=320, metric=None)
    return (
        StepRow(
            name="train",
            model=model,
            options={},
            key="k",
            cached=False,
            seconds=1,
            before=None,
            after=measure,
            sparsity=sparsity,
        ),
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """One linear layer of 8 to 8 without a bias, half of it zero, in fours."""
    weight = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    weight[0::4] = weight[1::4] = 0
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])],
        [numpy_helper.from_array(weight, "w")],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph), path)
    return path


def _row(path: Path, format_name: str) -> ArtifactRow:
    return ArtifactRow(
        format=format_name,
        convention="tensorrt",
        path=path.name,
        sha256="0",
        size_bytes=path.stat().st_size,
        precision="fp32",
        inputs=(),
        outputs=(),
    )


def _found(path: Path, format_name: str, target: str, sparsity: SparsityRow | None = MADE, model: str = "model"):
    files = [(path, _row(path, format_name))]
    return sparse_artifacts(files, load_target(target).target, _steps(sparsity, model))


def test_zeros_are_counted_in_the_file_and_sizes_follow(file: Path) -> None:
    (row,) = _found(file, "onnx", "cpu-x86-64")
    assert (row.zeros, row.weights, row.zeros_ratio) == (32, 64, 0.5)
    assert row.size_bytes == file.stat().st_size
    assert row.bitmask_bytes == row.size_bytes - 256 + 8 + 128
    assert row.deflated_bytes < row.size_bytes


def test_each_runtime_says_what_zeros_are_worth_there(file: Path) -> None:
    (cpu,) = _found(file, "onnx", "cpu-x86-64")
    assert (cpu.faster, cpu.runtime) == ("no", "onnxruntime")
    assert "mlas" in cpu.source
    (gpu,) = _found(file, "tensorrt", "jetson-orin-nano")
    assert gpu.faster == "where it has a kernel"
    assert gpu.reason.startswith("1 of 1 weights are 2:4: ")
    (old,) = _found(file, "tensorrt", "jetson-nano")
    assert (old.faster, old.runtime) == ("no", "trtexec")


def test_zeros_in_no_pattern_make_no_gpu_faster(file: Path) -> None:
    proto = onnx.load(file)
    weight = np.ones((8, 8), np.float32)
    weight[:, :6] = 0
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    onnx.save(proto, file)
    (row,) = _found(file, "tensorrt", "jetson-orin-nano")
    assert (row.faster, row.zeros) == ("no", 48)
    assert row.reason == "no weight is 2:4, which its sparse kernels want"


def test_a_target_that_says_nothing_is_not_known(file: Path) -> None:
    target = load_target("cpu-x86-64").target
    silent = target.model_copy(
        update={"formats": tuple(entry.model_copy(update={"sparse": None}) for entry in target.formats)}
    )
    (row,) = sparse_artifacts([(file, _row(file, "onnx"))], silent, _steps(MADE))
    assert (row.faster, row.reason) == ("not known", "the target says nothing of zeros in onnxruntime")


def test_without_a_sparse_step_of_the_model_there_is_no_row(file: Path) -> None:
    assert _found(file, "onnx", "cpu-x86-64", None) == ()
    assert _found(file, "onnx", "cpu-x86-64", MADE, "teacher") == ()


@pytest.mark.parametrize("target", ["cpu-x86-64", "cpu-arm64", "jetson-agx-orin", "jetson-nano", "jetson-orin-nano"])
def test_every_shipped_format_says_where_its_claim_is_from(target: str) -> None:
    for entry in load_target(target).target.formats:
        assert entry.sparse is not None
        assert len(entry.sparse.source) > 20
