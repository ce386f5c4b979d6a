"""Small graphs: one operator with its attributes, stored tensors and inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Running:
    """An input of the network: its shape, batch first, and its numbers."""

    shape: tuple[int, ...]
    low: float = -2.0
    high: float = 2.0
    dtype: Any = np.float32

    def values(self, generator: np.random.Generator) -> np.ndarray:
        if self.dtype == np.bool_:  # given as 0 and 1, and cast: no network takes truth values
            return generator.integers(0, 2, self.shape)
        if np.issubdtype(self.dtype, np.integer):
            return generator.integers(int(self.low), int(self.high), self.shape).astype(self.dtype)
        return generator.uniform(self.low, self.high, self.shape).astype(self.dtype)


Input = Running | np.ndarray | None


@dataclass(frozen=True)
class Case:
    """One node: its operator and set, inputs in order, number of outputs, attributes."""

    op: str
    inputs: tuple[Input, ...]
    opset: int
    outputs: int
    attributes: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = [f"{k}={v}" for k, v in self.attributes.items() if not isinstance(v, onnx.TensorProto)]
        shapes = [
            "x".join(map(str, i.shape)) if isinstance(i, Running) else "-" if i is None else "c" for i in self.inputs
        ]
        return f"{self.op}-{self.opset}({' '.join([*shapes, *shown])})".replace(" ", ",")[:120]

    def model(self, batch: int | str | None = None) -> onnx.ModelProto:
        """The graph; `batch` in place of the first size of its inputs."""
        names = ["" if given is None else f"i{k}" for k, given in enumerate(self.inputs)]
        outs = [f"o{k}" for k in range(self.outputs)]
        node = helper.make_node(self.op, names, outs, name=f"the_{self.op}", **self.attributes)
        running, casts = [], []
        for k, given in enumerate(self.inputs):
            if isinstance(given, Running) and given.dtype == np.bool_:
                running.append(value(f"raw{k}", Running(given.shape, dtype=np.int64), batch))
                casts.append(helper.make_node("Cast", [f"raw{k}"], [names[k]], to=TensorProto.BOOL))
            elif isinstance(given, Running):
                running.append(value(names[k], given, batch))
        stored = [
            numpy_helper.from_array(given, name)
            for name, given in zip(names, self.inputs, strict=True)
            if isinstance(given, np.ndarray)
        ]
        return model([*casts, node], running, outs, stored, self.opset)

    def feeds(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Numbers for every input of the network."""
        return {
            f"{'raw' if i.dtype == np.bool_ else 'i'}{k}": i.values(generator)
            for k, i in enumerate(self.inputs)
            if isinstance(i, Running)
        }


def case(op: str, *inputs: Any, opset: int = 18, outputs: int = 1, **attributes: Any) -> Case:
    """A tuple is an input of the network of that shape; an array is stored; None is left out."""
    given = tuple(Running(i) if isinstance(i, tuple) else i for i in inputs)
    return Case(op, given, opset, outputs, attributes)


def value(name: str, given: Running, batch: int | str | None = None) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(given.dtype))
    shape = [given.shape[0] if batch is None else batch, *given.shape[1:]]
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[str],
    stored: Sequence[onnx.TensorProto] = (),
    opset: int = 18,
) -> onnx.ModelProto:
    """A checked graph; types of its outputs are inferred."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        list(inputs),
        [onnx.ValueInfoProto(name=name) for name in outputs],
        list(stored),
    )
    others = {node.domain for node in nodes} - {""}
    sets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in sorted(others))]
    made = helper.make_model(graph, opset_imports=sets)
    made.ir_version = 8 if opset < 21 else 10
    inferred = onnx.shape_inference.infer_shapes(made, data_prop=True)
    rank = len(inputs[0].type.tensor_type.shape.dim)  # of what nothing is known but that it is like the input
    known = {v.name: v for v in (*inferred.graph.value_info, *inferred.graph.output)}
    del made.graph.output[:]
    for name in outputs:
        found = known.get(name)
        typed = found is not None and found.type.tensor_type.HasField("shape")
        made.graph.output.append(
            found if typed else helper.make_tensor_value_info(name, TensorProto.FLOAT, ["?"] * rank)
        )
    return made


def numbers(*shape: int, seed: int = 0, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    """A stored float tensor."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    """A stored list of int64."""
    return np.asarray(values, dtype=np.int64)


def flat(number: float) -> np.ndarray:
    """One stored float without axes."""
    return np.asarray(number, dtype=np.float32)


def network_file(
    path: Path, *, batch: int | str = 1, seed: int = 0, shape: Sequence[int] = (3, 8, 8), out: int = 4
) -> Path:
    """conv -> batch norm -> relu -> global pool -> flatten by a fixed reshape -> linear, saved as `path`."""
    stored = {
        "conv.weight": numbers(6, shape[0], 3, 3, seed=seed),
        "bn.weight": numbers(6, seed=1, low=0.5),
        "bn.bias": numbers(6, seed=2),
        "bn.running_mean": numbers(6, seed=3),
        "bn.running_var": numbers(6, seed=4, low=0.5),
        "flat": np.array([1, 6], np.int64),
        "fc.weight": numbers(out, 6, seed=5),
        "fc.bias": numbers(out, seed=6),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "conv.weight"], ["a"], "/conv/Conv", pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["a", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"], ["b"], "/bn"),
        node("Relu", ["b"], ["c"], "/relu"),
        node("GlobalAveragePool", ["c"], ["d"], "/pool"),
        node("Reshape", ["d", "flat"], ["e"], "/flat"),
        node("Gemm", ["e", "fc.weight", "fc.bias"], ["y"], "/fc/Gemm", transB=1),
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    onnx.save(model(nodes, [value("x", Running((1, *shape)), batch)], ["y"], tensors, 13), path)
    return path
