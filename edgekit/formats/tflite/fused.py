"""What a TFLite file executes: its operators, how LiteRT's XNNPACK delegate takes them, and what computes in float."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edgekit.errors import FormatError
from edgekit.schema.manifest import InFloat

_CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE"})
DELEGATE = "DELEGATE"


def executed_operators(path: Path) -> tuple[dict[str, int], tuple[InFloat, ...]]:
    """Operator counts of the file, with `DELEGATE` the number of parts that XNNPACK runs (one part: all in one piece).

    An operator computes in float if it writes a float tensor and is no conversion.

    Raises:
        FormatError: LiteRT refuses the file.
    """
    from ai_edge_litert.interpreter import Interpreter

    from edgekit.formats.tflite.convert import quiet

    try:
        with quiet():  # the delegate announces itself on stderr
            interpreter = Interpreter(model_path=str(path), num_threads=1)
            interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as err:
        raise FormatError(
            f"LiteRT cannot load the exported file: {err}", str(path), "report this: an exported file must load"
        ) from err
    types = {tensor["index"]: tensor["dtype"].__name__ for tensor in interpreter.get_tensor_details()}
    operators = interpreter._get_ops_details()
    in_float = tuple(
        InFloat(node=f"{op['op_name'].lower()} {op['index']}", op=op["op_name"], reason="LiteRT computes it in float")
        for op in operators
        if op["op_name"] not in (DELEGATE, *_CONVERSIONS)
        and any(types.get(int(tensor)) == "float32" for tensor in op["outputs"])
    )
    return dict(sorted(Counter(op["op_name"] for op in operators).items())), in_float
