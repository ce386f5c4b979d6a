"""Layers of a TensorRT engine: what its inspector says, joined with the times of a profiler."""

from __future__ import annotations

import json
from typing import Any, Mapping, Sequence

_PRECISIONS = (  # words in the inspector's tensor formats, of 8.x ('... FP16 format') and 10.x ('Half')
    ("int8", "int8"),
    ("fp8", "fp8"),
    ("int4", "int4"),
    ("fp4", "fp4"),
    ("fp16", "fp16"),
    ("half", "fp16"),
    ("bfloat16", "bf16"),
    ("bf16", "bf16"),
    ("fp32", "fp32"),
    ("float", "fp32"),
    ("int32", "int32"),
    ("int64", "int64"),
    ("bool", "bool"),
    ("uint8", "uint8"),
)


def inspected(trt: Any, engine: Any) -> list[Any]:
    """The layers of `EngineInspector`: dicts of an engine built with detailed verbosity, names of any other."""
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return inspector_layers(text)


def inspector_layers(text: str) -> list[Any]:
    """The layers in the inspector's JSON, whose other keys differ between versions; [] where it is no JSON.

    trtexec's `--exportLayerInfo` writes the same text.
    """
    try:
        read = json.loads(text)
    except ValueError:  # 8.x does not escape what it copies from names and metadata
        return []
    layers = read.get("Layers", []) if isinstance(read, dict) else []
    return list(layers) if isinstance(layers, list) else []


def layer_rows(times_ms: Mapping[str, Sequence[float]], runs: int, layers: Sequence[Any]) -> list[dict[str, Any]]:
    """One row {name, operator, mean_ms, runs, precision} per layer that was timed, in order of execution.

    Args:
        times_ms: of each layer by name, in the order in which the profiler first named them; layers of one name are
            one row.
        runs: of the network.
        layers: of `inspected`; a layer that is not among them has operator '' and precision None.
    """
    known = {layer["Name"]: layer for layer in layers if isinstance(layer, dict) and "Name" in layer}
    return [
        {
            "name": name,
            "operator": str(known.get(name, {}).get("LayerType", "")),
            "mean_ms": sum(values) / runs,
            "runs": runs,
            "precision": precision_of(known[name]) if name in known else None,
        }
        for name, values in times_ms.items()
    ]


def precision_of(layer: Mapping[str, Any]) -> str | None:
    """The number format that a layer computes in: that of its weights, else of its first input.

    An int8 convolution that gives float32 has int8 weights; a reformatting layer has none and is known by what it
    reads. None where the inspector names no format that is known here.
    """
    weights = layer.get("Weights")
    if isinstance(weights, dict) and weights.get("Count", 1):
        found = _word(str(weights.get("Type", "")))
        if found is not None:
            return found
    for key in ("Inputs", "Outputs"):
        for tensor in layer.get(key) or []:
            if isinstance(tensor, dict):
                found = _word(str(tensor.get("Format/Datatype") or tensor.get("Datatype") or ""))
                if found is not None:
                    return found
    return None


def _word(text: str) -> str | None:
    lowered = text.lower()
    for word, precision in _PRECISIONS:
        if word == "int8" and "uint8" in lowered:
            continue
        if word in lowered:
            return precision
    return None
