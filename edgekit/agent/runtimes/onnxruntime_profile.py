"""The JSON that ONNX Runtime's profiler writes, as a table of layers."""

from __future__ import annotations

import json
from typing import Any

_PRECISIONS = {
    "float": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "double": "fp64",
    "int8": "int8",
    "uint8": "int8",  # 8 bits; which sign is the convention's choice
    "int32": "int32",
    "int64": "int64",
    "bool": "bool",
}
_KERNEL = "_kernel_time"


def layer_rows(profile: str, runs: int) -> list[dict[str, Any]]:
    """One row {name, operator, mean_ms, runs, precision} per node that ran, in order of execution.

    Args:
        profile: of one run that is left out, as it allocates, and of `runs` that count.
        runs: at least 1.
    """
    rows: dict[str, dict[str, Any]] = {}
    times_ms: dict[str, list[float]] = {}
    for event in node_events(profile):
        name = str(event["name"])[: -len(_KERNEL)]
        arguments = event.get("args", {})
        rows.setdefault(
            name,
            {
                "name": name,
                "operator": str(arguments.get("op_name", "")),
                "mean_ms": 0.0,
                "runs": runs,
                "precision": _precision(arguments),
            },
        )
        times_ms.setdefault(name, []).append(float(event["dur"]) / 1e3)
    for name, row in rows.items():
        each_run = len(times_ms[name]) // (1 + runs)  # a node in a loop's body runs several times
        row["mean_ms"] = sum(times_ms[name][each_run:]) / runs
    return list(rows.values())


def nodes_of_providers(profile: str) -> dict[str, list[str]]:
    """Execution provider -> names of the nodes that ran there, each once, in order of execution."""
    found: dict[str, list[str]] = {}
    for event in node_events(profile):
        names = found.setdefault(str(event.get("args", {}).get("provider", "")), [])
        name = str(event["name"])[: -len(_KERNEL)]
        if name not in names:
            names.append(name)
    return found


def node_events(profile: str) -> list[dict[str, Any]]:
    """What the profile says of kernels, in order of time."""
    events = [e for e in json.loads(profile) if e.get("cat") == "Node" and str(e.get("name", "")).endswith(_KERNEL)]
    return sorted(events, key=lambda event: float(event["ts"]))


def _precision(arguments: dict[str, Any]) -> str | None:
    outputs = arguments.get("output_type_shape") or []
    if not outputs or not isinstance(outputs[0], dict):
        return None
    return _PRECISIONS.get(next(iter(outputs[0]), ""))
