"""Rules of TensorRT's explicit quantisation, checked one by one on an ONNX graph. Not a build: a build is the proof.

Source: TensorRT developer guide, "Working with Quantized Types".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.schema.manifest import ConformanceRow

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class _Graph:
    nodes: list[onnx.NodeProto]
    maker: Mapping[str, onnx.NodeProto]
    readers: Mapping[str, list[onnx.NodeProto]]
    constants: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, proto: onnx.ModelProto) -> _Graph:
        nodes = list(proto.graph.node)
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in nodes:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        return cls(
            nodes,
            {name: node for node in nodes for name in node.output},
            readers,
            {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer},
        )

    def of_type(self, *ops: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if node.op_type in ops]

    def made_by(self, name: str, *ops: str) -> bool:
        return name in self.maker and self.maker[name].op_type in ops

    def is_weight_branch(self, dq: onnx.NodeProto) -> bool:
        return dq.input[0] in self.constants


Finding = tuple[int, list[str]]  # places checked, and the names of those that break the rule


def _zero_points(graph: _Graph) -> Finding:
    pairs = [n for n in graph.of_type("QuantizeLinear", "DequantizeLinear") if len(n.input) > 2 and n.input[2]]
    return len(pairs), [n.name for n in pairs if n.input[2] not in graph.constants or graph.constants[n.input[2]].any()]


def _signed(graph: _Graph) -> Finding:
    places = [n for n in graph.of_type("QuantizeLinear", "DequantizeLinear") if len(n.input) > 2]
    return len(places), [n.name for n in places if graph.constants[n.input[2]].dtype != np.int8]


def _per_tensor_activations(graph: _Graph) -> Finding:
    places = graph.of_type("QuantizeLinear")
    return len(places), [n.name for n in places if graph.constants[n.input[1]].size != 1]


def _weight_axis(graph: _Graph) -> Finding:
    places = [n for n in graph.of_type("DequantizeLinear") if graph.is_weight_branch(n)]
    wrong = []
    for node in places:
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        scale = graph.constants[node.input[1]]
        if scale.size > 1 and (axis != 0 or scale.size != graph.constants[node.input[0]].shape[0]):
            wrong.append(node.name)
    return len(places), wrong


def _inputs_quantised(graph: _Graph) -> Finding:
    places = graph.of_type(*_WEIGHTED)
    return len(places), [
        n.name for n in places if not all(graph.made_by(name, "DequantizeLinear") for name in n.input[:2])
    ]


def _float_bias(graph: _Graph) -> Finding:
    places = [n for n in graph.of_type("Conv", "ConvTranspose", "Gemm") if len(n.input) > 2 and n.input[2]]
    return len(places), [
        n.name for n in places if n.input[2] not in graph.constants or graph.constants[n.input[2]].dtype != np.float32
    ]


def _skip_only(graph: _Graph) -> Finding:
    places, wrong = 0, []
    for node in graph.of_type("Add"):
        quantised = [graph.made_by(name, "DequantizeLinear") for name in node.input]
        main = [graph.made_by(name, "Conv", "Gemm", "MatMul") for name in node.input]
        if not any(main) and not any(quantised):
            continue  # arithmetic on something else
        places += 1
        if any(main) and sum(quantised) != 1:
            wrong.append(node.name)
    return places, wrong


def _no_pair_before_activation(graph: _Graph) -> Finding:
    places = graph.of_type("Relu", "Clip")
    return len(places), [
        n.name
        for n in places
        if graph.made_by(n.input[0], "DequantizeLinear")
        and graph.made_by(graph.maker[graph.maker[n.input[0]].input[0]].input[0], *_WEIGHTED)
    ]


def _norms_folded(graph: _Graph) -> Finding:
    norms = graph.of_type("BatchNormalization")
    return len(graph.of_type(*_WEIGHTED)), [n.name for n in norms if graph.made_by(n.input[0], *_WEIGHTED)]


RULES: Mapping[str, Callable[[_Graph], Finding]] = {
    "Every zero point is 0": _zero_points,
    "Codes are int8": _signed,
    "Activations have one scale": _per_tensor_activations,
    "Weights have one scale per output channel, on axis 0": _weight_axis,
    "Input and weight of every convolution and matrix product come from DequantizeLinear": _inputs_quantised,
    "Biases stay float, without Q/DQ": _float_bias,
    "An addition behind a convolution has Q/DQ on its skip input only": _skip_only,
    "No Q/DQ between a convolution and the activation that fuses into it": _no_pair_before_activation,
    "Batch norms are folded before Q/DQ are placed": _norms_folded,
}


def check_conformance(proto: onnx.ModelProto) -> tuple[ConformanceRow, ...]:
    """One row per rule: how many places were checked, and which break it."""
    graph = _Graph.of(proto)
    rows = []
    for rule, check in RULES.items():
        checked, wrong = check(graph)
        rows.append(ConformanceRow(rule=rule, passed=not wrong, checked=checked, detail=", ".join(wrong)))
    return tuple(rows)
