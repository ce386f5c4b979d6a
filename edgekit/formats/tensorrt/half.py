"""A float32 ONNX file in float16, for engines whose precision comes from the network's own types alone.

TensorRT 8 to 10 make float16 of float32 by a builder flag, and choose for every layer; TensorRT 11, and strongly typed
networks before it, compute in what the file says. Inputs and outputs stay float32, so nothing else changes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import FormatError

_LARGEST = float(np.finfo(np.float16).max)  # 65504
_STAYS: Mapping[str, tuple[int, ...]] = {"Resize": (2,), "Upsample": (1,)}  # inputs that ONNX wants in float32: scales
_NAMES_A_TYPE = ("EyeLike", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial")
_FLOAT32_ONLY = ("NonMaxSuppression", "QuantizeLinear", "DequantizeLinear")


def to_float16(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The network with float16 weights and activations between float32 inputs and outputs.

    Numbers are rounded to the nearest float16; those below 6e-8 become 0.

    Args:
        proto: left as it is.
        name: of the file, for errors.

    Raises:
        FormatError: a weight is beyond float16's range, or an operator exists in float32 alone. A quantised network is
            one of these: its scales would lose digits, and int8 needs no float16.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    graph = made.graph
    for node in graph.node:
        if node.op_type in _FLOAT32_ONLY + _NAMES_A_TYPE or any(a.HasField("g") or a.graphs for a in node.attribute):
            raise FormatError(
                f"{node.op_type} cannot be turned to float16",
                f"{name}, node {node.name}",
                "build in fp32 or int8, or with TensorRT 8 to 10, whose builder chooses float16 itself",
            )
    kept = _float32_tensors(graph)
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            tensor.CopyFrom(_halved(tensor, name))
    for node in graph.node:
        if not set(node.output) & kept:
            _halve_attributes(node, name)
    _cast_inputs(graph)
    _cast_outputs(graph)
    del graph.value_info[:]  # the types there are the old ones
    onnx.checker.check_model(made, full_check=True)
    return made


def _float32_tensors(graph: onnx.GraphProto) -> set[str]:
    """Names of the constants that an operator wants in float32."""
    return {
        node.input[index]
        for node in graph.node
        for index in _STAYS.get(node.op_type, ())
        if index < len(node.input) and node.input[index]
    }


def _halved(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    largest = float(np.abs(values).max()) if values.size else 0.0
    if largest > _LARGEST:
        raise FormatError(
            f"{largest:.6g} is beyond float16, whose largest number is {_LARGEST:.0f}",
            f"{name}, tensor {tensor.name}",
            "build this network in fp32, or in int8",
        )
    return numpy_helper.from_array(values.astype(np.float16), tensor.name)


def _halve_attributes(node: onnx.NodeProto, name: str) -> None:
    """Constants, and casts to float32, become float16."""
    for attribute in node.attribute:
        if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(_halved(attribute.t, name))
        elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            floats = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            tensor = numpy_helper.from_array(np.asarray(floats, np.float32), node.output[0])
            attribute.CopyFrom(helper.make_attribute("value", _halved(tensor, name)))


def _cast_inputs(graph: onnx.GraphProto) -> None:
    constants = {tensor.name for tensor in graph.initializer}
    casts = []
    for tensor in graph.input:
        if tensor.name in constants or tensor.type.tensor_type.elem_type != TensorProto.FLOAT:
            continue
        inner = _free(graph, tensor.name)
        for node in graph.node:
            node.input[:] = [inner if word == tensor.name else word for word in node.input]
        casts.append(helper.make_node("Cast", [tensor.name], [inner], name=f"{inner}_cast", to=TensorProto.FLOAT16))
    for node in reversed(casts):
        graph.node.insert(0, node)


def _cast_outputs(graph: onnx.GraphProto) -> None:
    for tensor in graph.output:
        if tensor.type.tensor_type.elem_type != TensorProto.FLOAT:
            continue
        inner = _free(graph, tensor.name)
        for node in graph.node:
            node.input[:] = [inner if word == tensor.name else word for word in node.input]
            node.output[:] = [inner if word == tensor.name else word for word in node.output]
        graph.node.append(helper.make_node("Cast", [inner], [tensor.name], name=f"{inner}_cast", to=TensorProto.FLOAT))


def _free(graph: onnx.GraphProto, name: str) -> str:
    """A name that no tensor has yet."""
    taken = {word for node in graph.node for word in (*node.input, *node.output)}
    found = f"{name}_float16"
    while found in taken:
        found += "_"
    return found
