"""What ONNX Runtime makes of a graph: operators of its optimised graph, and which of them compute in float."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import onnx

from edgekit.errors import FormatError
from edgekit.schema.manifest import InFloat

# operators that only move or convert data; the rest of an integer graph has QLinear, Integer or a QGemm-like name
_NEUTRAL = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "Reshape", "Flatten", "Transpose", "Slice", "Squeeze", "Unsqueeze"}
    | {"MaxPool", "Pad", "Concat", "Gather", "Split", "Constant", "Identity", "ReorderInput", "ReorderOutput"}
)


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
        nodes = onnx.load(options.optimized_model_filepath).graph.node
    counts = Counter(node.op_type for node in nodes)
    in_float = tuple(
        InFloat(node=node.name, op=node.op_type, reason="ONNX Runtime's optimised graph computes it in float")
        for node in nodes
        if not _in_integers(node.op_type)
    )
    return dict(sorted(counts.items())), in_float


def _in_integers(op: str) -> bool:
    return op in _NEUTRAL or op.startswith(("QLinear", "QGemm", "QAttention")) or "Integer" in op
