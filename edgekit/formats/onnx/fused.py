"""What ONNX Runtime makes of a graph: operators of its optimised graph, and which of them compute in float."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx

from edgekit.errors import FormatError
from edgekit.schema.manifest import InFloat

# they change no value and touch no data, or their layout alone
_FREE = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "ReorderInput", "ReorderOutput"})


def optimised_graph(path: Path) -> tuple[dict[str, int], tuple[InFloat, ...]]:
    """Operator counts of the graph that ONNX Runtime's CPU provider really executes, and what it computes in float.

    Raises:
        FormatError: ONNX Runtime refuses the file.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        # on x86 the optimiser turns s8 into u8 pair by pair and so breaks fusions; on Arm it does not
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        options.log_severity_level = 3  # it warns that the saved graph fits this machine only, which is the point
        try:
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as err:  # the runtime raises a class of its own per status code
            raise FormatError(
                f"ONNX Runtime cannot load the exported graph: {str(err).splitlines()[0]}",
                str(path),
                "report this: an exported graph must load",
            ) from err
        graph = onnx.load(options.optimized_model_filepath).graph
    nodes = graph.node
    counts = Counter(node.op_type for node in nodes)
    in_float = tuple(
        InFloat(node=node.name, op=node.op_type, reason="ONNX Runtime's optimised graph computes it in float")
        for node in _computing_in_float(graph)
    )
    return dict(sorted(counts.items())), in_float


def _computing_in_float(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes with a float activation among their inputs, but those that only turn it into codes or move nothing.

    The type of a tensor is followed from the graph's inputs on: Q ends float, DQ begins it.
    """
    floats = {value.name for value in graph.input if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            floats.update(node.output)
        elif node.op_type not in ("QuantizeLinear", "DynamicQuantizeLinear") and floats.intersection(node.input):
            floats.update(node.output)
            if node.op_type not in _FREE:
                yield node
