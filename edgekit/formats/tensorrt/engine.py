"""The plan to build a TensorRT engine on the board: engine.json. An engine fits the GPU and the library it was built
with, so it is built where it runs; until then the bundle says `engine: deferred` and how.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from edgekit.formats.files import write_artifact
from edgekit.schema.manifest import ArtifactRow

ENGINE_NAME = "model.engine"


def write_engine_plan(folder: Path, row: ArtifactRow) -> Path:
    """Write `engine.json` beside the ONNX file of `row`: what to build, from what, with which command."""
    plan: Mapping[str, object] = {
        "engine": "deferred",
        "reason": "an engine fits only the GPU and TensorRT version that it is built with, so the board builds it",
        "onnx": {"path": row.path, "sha256": row.sha256},
        "precision": row.precision,
        "command": trtexec_command(row),
        "command_tensorrt_11": trtexec_command(row, newest=True),
        "job": {  # for the agent's job build_engine; edgekit adds the file's name and where results go
            "precision": "int8" if row.precision == "int8" else "fp16",
            "strongly_typed": False,
            "sparse_weights": row.two_of_four > 0,
            "profiles": [],
        },
        "inputs": [{"name": t.name, "shape": list(t.shape), "dtype": t.dtype} for t in row.inputs],
        "outputs": [{"name": t.name, "shape": list(t.shape), "dtype": t.dtype} for t in row.outputs],
    }
    content = json.dumps(plan, indent=2, sort_keys=True) + "\n"
    return write_artifact(folder / "engine.json", content.encode()).path


def trtexec_command(row: ArtifactRow, *, newest: bool = False) -> list[str]:
    """The command that builds the engine on the board, run in the bundle's folder.

    `--int8 --fp16` lets TensorRT use those kernels where Q/DQ ask for them; without Q/DQ it would need a calibrator,
    so a float model gets `--fp16` alone. The flags exist in TensorRT 8.x to 10.x; 11 has none, because the types of the
    network decide there: a float32 file gives a float32 engine, with int8 where Q/DQ ask for it. Weights in the 2:4
    pattern get `--sparsity=enable`: the builder then tries sparse kernels too, and takes them where they are faster.

    Args:
        row: of the ONNX file.
        newest: for TensorRT 11.
    """
    precision = ["--int8", "--fp16"] if row.precision == "int8" else ["--fp16"]
    if newest:
        precision = []
    return [
        "trtexec",
        f"--onnx={row.path}",
        f"--saveEngine={ENGINE_NAME}",
        *precision,
        *(["--sparsity=enable"] if row.two_of_four else []),
        "--timingCacheFile=timing.cache",
    ]
