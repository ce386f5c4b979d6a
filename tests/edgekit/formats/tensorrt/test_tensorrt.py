"""TensorRT's rules: they hold on what we export, and each is able to fail."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekit.formats.artifact import Artifact
from edgekit.formats.tensorrt.conformance import RULES, check_conformance
from edgekit.formats.tensorrt.export import export_tensorrt
from edgekit.schema.recipe import Export
from tests import nets
from tests.edgekit.formats.quantised import quantised


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("tensorrt")
    return export_tensorrt(quantised(nets.TINY_RESIDUAL), "tensorrt", folder, "model.tensorrt", Export())


def test_every_rule_holds_and_was_checked_somewhere(artifact: Artifact) -> None:
    assert len(artifact.row.conformance) == len(RULES)
    for row in artifact.row.conformance:
        assert row.passed, row
        assert row.checked > 0, row


def _initialiser(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


def _first(model: onnx.ModelProto, op: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.op_type == op)


def _shift_zero(model: onnx.ModelProto) -> None:
    tensor = _initialiser(model, _first(model, "QuantizeLinear").input[2])
    tensor.CopyFrom(numpy_helper.from_array(np.array(3, np.int8), tensor.name))


def _unsigned(model: onnx.ModelProto) -> None:
    tensor = _initialiser(model, _first(model, "QuantizeLinear").input[2])
    tensor.CopyFrom(numpy_helper.from_array(np.array(0, np.uint8), tensor.name))


def _many_scales(model: onnx.ModelProto) -> None:
    tensor = _initialiser(model, _first(model, "QuantizeLinear").input[1])
    tensor.CopyFrom(numpy_helper.from_array(np.array([1, 2], np.float32), tensor.name))


def _other_axis(model: onnx.ModelProto) -> None:
    weights = {t.name for t in model.graph.initializer}
    node = next(n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in weights)
    (axis,) = (a for a in node.attribute if a.name == "axis")
    axis.i = 1


def _float_input(model: onnx.ModelProto) -> None:
    conv = _first(model, "Conv")
    conv.input[0] = "image"


def _integer_bias(model: onnx.ModelProto) -> None:
    tensor = _initialiser(model, _first(model, "Conv").input[2])
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.int32), tensor.name))


def _pair_on_both(model: onnx.ModelProto) -> None:
    add = _first(model, "Add")
    dequantised = next(n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear")
    add.input[:] = [dequantised, dequantised]
    conv = next(n for n in model.graph.node if n.op_type == "Conv")
    add.input.append(conv.output[0])


def _pair_before_relu(model: onnx.ModelProto) -> None:
    relu = _first(model, "Relu")
    q = _first(model, "QuantizeLinear")
    extra = [
        helper.make_node("QuantizeLinear", [relu.input[0], *q.input[1:]], ["extra_q"]),
        helper.make_node("DequantizeLinear", ["extra_q", *q.input[1:]], ["extra"]),
    ]
    relu.input[0] = "extra"
    model.graph.node.extend(extra)


def _norm_left(model: onnx.ModelProto) -> None:
    conv = _first(model, "Conv")
    model.graph.node.append(helper.make_node("BatchNormalization", [conv.output[0], "a", "b", "c", "d"], ["n"]))


BREAKS: dict[str, Callable[[onnx.ModelProto], None]] = dict(
    zip(
        RULES,
        [
            _shift_zero,
            _unsigned,
            _many_scales,
            _other_axis,
            _float_input,
            _integer_bias,
            _pair_on_both,
            _pair_before_relu,
            _norm_left,
        ],
        strict=True,
    )
)


@pytest.mark.parametrize("rule", RULES)
def test_a_graph_that_breaks_a_rule_fails_that_rule(rule: str, artifact: Artifact) -> None:
    model = onnx.load(artifact.path)
    BREAKS[rule](model)
    failed = {row.rule for row in check_conformance(model) if not row.passed}
    assert rule in failed


def test_engine_is_deferred_with_the_command_that_builds_it(artifact: Artifact) -> None:
    assert artifact.row.engine == "deferred"
    plan = json.loads((artifact.folder / "engine.json").read_text())
    assert plan["engine"] == "deferred"
    assert plan["onnx"] == {"path": "model.tensorrt.onnx", "sha256": artifact.row.sha256}
    assert plan["command"][0] == "trtexec"
    assert "--onnx=model.tensorrt.onnx" in plan["command"]
    assert "--int8" in plan["command"]
    assert plan["job"]["precision"] == "int8"
    newest = plan["command_tensorrt_11"]  # 11 has no such flags
    assert newest == [word for word in plan["command"] if word not in ("--int8", "--fp16")]


def test_a_float_engine_is_not_asked_for_int8(tmp_path: Path) -> None:
    result = export_tensorrt(nets.model(nets.TINY_CONV), "tensorrt", tmp_path, "model", Export())
    plan = json.loads((tmp_path / "engine.json").read_text())
    assert "--int8" not in plan["command"]
    assert plan["job"]["precision"] == "fp16"
    assert result.row.conformance == ()


def test_what_onnx_runtime_fuses_is_not_claimed_for_tensorrt(artifact: Artifact) -> None:
    assert artifact.row.fused == {}
    assert artifact.row.fused_by == ""
    assert artifact.row.in_float == ()


def test_the_stand_in_computes_the_program_as_it_is_written(artifact: Artifact) -> None:
    from edgekit.agent.runtimes.onnxruntime import UnfusedOnnxRuntime

    model = quantised(nets.TINY_RESIDUAL)
    (samples,) = model.example(40, seed=3)
    with UnfusedOnnxRuntime(artifact.path, threads=1, options={}) as runtime:
        for x in samples:
            given = runtime.infer({"image": x[None].numpy()})["output"]
            # float32 sums instead of exact ones; no code flips on these samples
            np.testing.assert_allclose(given, artifact.program(x[None])[0].numpy(), rtol=1e-5, atol=1e-5)
