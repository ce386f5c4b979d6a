"""Faults planted into ONNX files, and the sides that tests compare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

Edit = Callable[[onnx.GraphProto], None]


def planted(path: Path, edit: Edit) -> Path:
    """A copy of an ONNX file with a fault, beside it."""
    model = onnx.load(path)
    edit(model.graph)
    copy = path.with_name(f"fault-{path.name}")
    onnx.save(model, copy)
    return copy


def weighted(graph: onnx.GraphProto, index: int) -> onnx.NodeProto:
    return [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")][index]


def maker(graph: onnx.GraphProto, tensor: str) -> onnx.NodeProto:
    return next(node for node in graph.node if tensor in node.output)


def content(graph: onnx.GraphProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(t for t in graph.initializer if t.name == name))


def stored(graph: onnx.GraphProto, values: np.ndarray) -> str:
    """The name of a new constant; exporters share constants between nodes, so none is changed in place."""
    name = f"planted_{len(graph.initializer)}"
    graph.initializer.append(numpy_helper.from_array(np.array(values, order="C"), name))
    return name


def scale_weight(index: int, factor: float) -> Edit:
    """The scale of one layer's weight times `factor`, its codes as they were."""

    def edit(graph: onnx.GraphProto) -> None:
        pair = maker(graph, weighted(graph, index).input[1])
        pair.input[1] = stored(graph, content(graph, pair.input[1]) * np.float32(factor))

    return edit


def drop_bias(index: int) -> Edit:
    def edit(graph: onnx.GraphProto) -> None:
        del weighted(graph, index).input[2:]

    return edit


def reverse_input_channels(graph: onnx.GraphProto) -> None:
    """The first layer's weight as if it had been trained on the other channel order."""
    pair = maker(graph, weighted(graph, 0).input[1])
    pair.input[0] = stored(graph, content(graph, pair.input[0])[:, ::-1])


def scale_tflite_range(path: Path, tensor: str, factor: float) -> Path:
    """A copy of a TFLite file whose grid of one activation has its scale times `factor`."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    (found,) = (item for item in model.subgraphs[0].tensors if item.name == tensor.encode())
    found.quantization.scale = found.quantization.scale * np.float32(factor)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    copy = path.with_name(f"fault-{path.name}")
    copy.write_bytes(builder.Output())
    return copy


def scale_range(index: int, factor: float) -> Edit:
    """The scale of the activation grid number `index`, counted in execution order, times `factor`."""

    def edit(graph: onnx.GraphProto) -> None:
        q = [node for node in graph.node if node.op_type == "QuantizeLinear"][index]
        scale = stored(graph, content(graph, q.input[1]) * np.float32(factor))
        for node in graph.node:
            if node.output[0] == q.output[0] or q.output[0] in node.input:
                node.input[1] = scale

    return edit
